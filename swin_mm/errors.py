"""The errors that end a load or a run with a reason and a way out, and how their texts are put together."""

from collections.abc import Iterable


class CheckpointError(ValueError, RuntimeError):
    """Weights that cannot be loaded; a ValueError, and the RuntimeError that ``load_state_dict`` raises."""


class PreflightError(RuntimeError):
    """A run that cannot start; the message says why and what to do."""


class RunError(RuntimeError):
    """A run that cannot go on; the message says why and what to do."""


def shortlist(items: Iterable[str], shown: int = 4) -> str:
    """Joins the first of ``items`` and adds how many there are: 'a, b, c, d, ... (9 in all)'."""
    items = list(items)
    return ', '.join(items[:shown]) + (f', ... ({len(items)} in all)' if len(items) > shown else '')


def one_line(text: object) -> str:
    """Puts a text or the message of an error on one line."""
    return ' '.join(str(text).split())


def megabytes(size: int) -> str:
    """Writes ``size``, in bytes, as '12.30 MB'."""
    return f'{size / 1e6:,.2f} MB'
