"""What a check of a data set found, and how it reads: a table for people, JSON for programs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

SEVERITIES = ('error', 'warning', 'note')
EXAMPLES = 3
OFFENDERS = 12  # shown with their images by `write_report`


class Offender(NamedTuple):
    """An example: ``text``, and if known the ``path`` of an image and a ``box`` (x, y, width, height) in pixels."""

    text: str
    path: str | None = None
    box: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Finding:
    """One kind of defect in one data set, with how many there are and the first ``OFFENDERS`` of them."""

    severity: str
    check: str
    data: str
    count: int
    sentence: str
    offenders: list[Offender]

    @property
    def examples(self) -> list[str]:
        """The first ``EXAMPLES`` as text."""
        return [offender.text for offender in self.offenders[:EXAMPLES]]


class Findings:
    """Collects findings. ``data`` names the data set that is being checked, such as 'train: annotations.json'."""

    def __init__(self) -> None:
        self.rows: list[Finding] = []
        self.data = ''

    def add(
        self, severity: str, check: str, sentence: str, examples: Iterable[str | Offender] = (), count: int = 1
    ) -> None:
        """Notes a finding; does nothing if ``count`` is 0."""
        if count:
            first = islice(examples, OFFENDERS)
            shown = [Offender(example) if isinstance(example, str) else example for example in first]
            self.rows.append(Finding(severity, check, self.data, int(count), sentence, shown))

    def of(self, severity: str) -> list[Finding]:
        """The findings of one severity, in the order in which they were made."""
        return [row for row in self.rows if row.severity == severity]

    def as_json(self, severities: Sequence[str] = SEVERITIES) -> dict[str, Any]:
        """Gives plain data: the number of findings of each severity, and all findings, errors first."""
        rows: list[dict[str, Any]] = []
        for row in (row for severity in severities for row in self.of(severity)):
            rows.append({key: value for key, value in vars(row).items() if key != 'offenders'})
            rows[-1]['examples'] = row.examples
        return {f'{severity}s': len(self.of(severity)) for severity in severities} | {'findings': rows}

    def lines(self, severities: Iterable[str] = SEVERITIES) -> Iterator[str]:
        """Yields the table: errors first, under each finding its examples."""
        for row in (row for severity in severities for row in self.of(severity)):
            yield f'{row.severity:8}{row.check:20}{row.count:>8}  {row.data}: {row.sentence}'
            yield from (f'{"":38}{example}' for example in row.examples)

    def summary(self) -> str:
        """Counts the findings: '1 error, 0 warnings, 2 notes'."""
        counts = [(len(self.of(severity)), severity) for severity in SEVERITIES]
        return ', '.join(f'{count} {severity}{"" if count == 1 else "s"}' for count, severity in counts)
