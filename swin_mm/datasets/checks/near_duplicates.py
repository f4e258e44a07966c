"""Finds most of the images that look alike: the same photograph at another size, quality or format."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np
from PIL import Image

SIDE = 8  # the fingerprint has SIDE * SIDE bits
BITS_APART = 3
BANDS = BITS_APART + 1  # of that many parts of two fingerprints, one is equal if no more bits differ
WIDTH = SIDE * SIDE // BANDS
FLAT = 8  # grey levels: an image without contrast looks like every other

Label = TypeVar('Label')


def fingerprint(image: Image.Image) -> int | None:
    """Gives 64 bits that say where a decoded image gets brighter from left to right; None for one that is nearly flat.

    The image is reduced to 9 x 8 grey values first: the difference hash of Neal Krawetz, 'Kind of Like That', 2013.
    """
    grey = np.asarray(image.convert('L').resize((SIDE + 1, SIDE), Image.Resampling.BOX), dtype=np.int16)
    if grey.max() - grey.min() < FLAT:
        return None
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), 'big')


class Lookalikes(Generic[Label]):
    """An index of fingerprints that finds those at most ``BITS_APART`` bits from another."""

    def __init__(self, items: Iterable[tuple[int, Label]]):
        self.buckets: dict[tuple[int, int], list[tuple[int, Label]]] = defaultdict(list)
        for key, label in items:
            for band in _bands(key):
                self.buckets[band].append((key, label))

    def find(self, key: int) -> Label | None:
        """The label of the first fingerprint that is near ``key``; None if there is none."""
        near = (
            label
            for band in _bands(key)
            for other, label in self.buckets.get(band, ())
            if (key ^ other).bit_count() <= BITS_APART
        )
        return next(near, None)


def _bands(key: int) -> Iterator[tuple[int, int]]:
    for i in range(BANDS):
        yield i, key >> i * WIDTH & (1 << WIDTH) - 1
