"""A table of all that was found, for spreadsheets and pandas."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..results import Segmentation
from .output import Item, Job, Output

OBJECT = ('image', 'object', 'class', 'label', 'score', 'x1', 'y1', 'x2', 'y2', 'pixels')
CLASS = ('image', 'class', 'label', 'share', 'pixels')


class Table(Output):
    """``predictions.csv``: a row an object, of whatever score, or a row a class of an image.

    ``object`` counts those of an image from 1. ``pixels``: the size of the mask, empty for a model of boxes.
    """

    place = ''

    def __init__(self, job: Job):
        super().__init__(job)
        self.rows = self.grow('predictions.csv')

    def write(self, item: Item) -> Iterator[Path]:
        """Adds the rows of an image, none if nothing was found."""
        found = item.found
        if isinstance(found, Segmentation):
            rows: list[Sequence[Any]] = [
                [item.source, c.name, c.label, f'{c.share:.6f}', int(c.mask.sum())] for c in found
            ]
            header: Sequence[str] = CLASS
        else:
            rows = [
                [item.source, i, o.name, o.label, f'{o.score:.4f}', *(f'{value:.2f}' for value in o.box), _size(o.mask)]
                for i, o in enumerate(found, 1)
            ]
            header = OBJECT
        text = io.StringIO()
        csv.writer(text, lineterminator='\n').writerows([header, *rows] if self.rows.length == 0 else rows)
        self.rows.add([text.getvalue()])
        yield from ()


def _size(mask: np.ndarray | None) -> int | str:
    return '' if mask is None else int(mask.sum())
