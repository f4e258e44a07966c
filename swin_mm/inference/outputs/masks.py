"""Masks as PNG files of numbers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import PreflightError
from ..results import Detections, Segmentation
from .output import Item, Output


class Masks(Output):
    """``masks/NAME.png``: of a segmentor the class of each pixel, as an index from 0; of a detector the object, from 1.

    Object K is the Kth in the JSON and CSV files of the image; 0 is none. Where objects overlap, the best one is on
    top; those that score too little are left out. A model of segments alone gives segment K of its JSON.
    """

    place = 'masks'

    def write(self, item: Item) -> Iterator[Path]:
        """Writes one file; raises PreflightError if the model finds boxes alone."""
        path = self.path(item, '.png')
        if isinstance(item.found, Segmentation):
            write_indices(path, item.found.labels, len(self.job.classes))
        else:
            numbers = object_numbers(item.found.filter(self.job.score))
            write_indices(path, numbers, int(numbers.max()) + 1)
        yield path


def object_numbers(found: Detections) -> np.ndarray:
    """(height, width): which object a pixel is of, from 1; raises PreflightError for boxes alone."""
    if found.masks is None and found.panoptic is not None:
        return found.panoptic.segments + 1
    if found.masks is None:
        raise PreflightError(
            '--save masks needs a model that finds masks, and this one finds boxes alone: leave it out'
        )
    numbers = np.zeros(found.masks.shape[1:], np.int64)
    for i in reversed(range(len(found))):
        numbers[found.masks[i]] = i + 1
    return numbers


def write_indices(path: Path, indices: np.ndarray, number: int) -> None:
    """Writes ``indices``, of which there may be ``number``, as a grey PNG of 8 bits, or of 16 if these do not do."""
    Image.fromarray(indices.astype(np.uint8 if number <= 256 else np.uint16)).save(path)
