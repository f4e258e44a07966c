"""Writes what an analysis found: a table for people, CSV and JSON for programs."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CONFUSED = 10  # pairs of classes that are listed

Row = dict[str, Any]  # the class, whole numbers, and scores in 0..1, NaN for one that is not known


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields a line for each row below the names of its columns; scores as percentages."""
    texts = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = (f'{text:>{width}}' for text, width in zip(others, widths[1:], strict=True))
        yield '  '.join([f'{first:<{widths[0]}}', *cells])


def confusion_lines(matrix: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    """Yields the pairs of ``names`` that are confused most: (there, found); the matrix may be larger than these."""
    wrong = matrix[: len(names), : len(names)].copy()
    np.fill_diagonal(wrong, 0)
    for place in np.argsort(-wrong, axis=None, kind='stable')[:CONFUSED]:
        there, found = np.unravel_index(place, wrong.shape)
        if count := wrong[there, found]:
            share = 100 * count / matrix[there].sum()
            yield f'  {names[there]} taken for {names[found]}: {count} ({share:.1f} % of {names[there]})'


def mean_row(rows: Sequence[Row]) -> Row:
    """The sum of whole numbers and the mean of the scores that are known."""
    result: Row = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        known = [value for value in values if isinstance(value, float) and not math.isnan(value)]
        mean = sum(known) / len(known) if known else math.nan
        result[name] = 'all' if isinstance(first, str) else sum(values) if isinstance(first, int) else mean
    return result


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """Writes ``rows`` with their column names; gives the path."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: '' if _is_nan(value) else value for k, value in row.items()} for row in rows)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Writes ``content``, null for NaN; gives the path."""
    path.write_text(json.dumps(_plain(content), indent=2), encoding='utf-8')
    return path


def _text(value: Any) -> str:
    if isinstance(value, float):
        return '-' if math.isnan(value) else f'{100 * value:.1f}'
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if _is_nan(value) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
