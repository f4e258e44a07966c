"""The places of tiles that cover an image and overlap their neighbours."""

from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """A region of an image, in pixels: from (``left``, ``top``) up to (``right``, ``bottom``), which is outside."""

    left: int
    top: int
    right: int
    bottom: int

    def inner_edges(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Gives left, top, right and bottom; infinite where the edge is that of the whole image, which cuts nothing."""
        infinite = float('inf')
        return (
            self.left or -infinite,
            self.top or -infinite,
            self.right if self.right < width else infinite,
            self.bottom if self.bottom < height else infinite,
        )


def tile_rows(height: int, width: int, tile: int, overlap: float) -> list[list[Tile]]:
    """Gives the rows of tiles of ``tile`` pixels a side, each sharing at least ``overlap`` of it with the next.

    They are spread evenly, so the last one needs no other size. An image smaller than a tile is one tile of its own
    size. Raises ValueError unless tile >= 32 and 0 <= overlap <= 0.5.
    """
    if tile < 32:
        raise ValueError(f'tile must be at least 32 pixels, got tile={tile}')
    if not 0 <= overlap <= 0.5:
        raise ValueError(f'overlap must be in [0, 0.5], got overlap={overlap:g}')
    lefts, tops = (_starts(size, tile, overlap) for size in (width, height))
    return [[Tile(left, top, min(left + tile, width), min(top + tile, height)) for left in lefts] for top in tops]


def _starts(size: int, tile: int, overlap: float) -> list[int]:
    if size <= tile:
        return [0]
    number = 1 + int(np.ceil((size - tile) / (tile * (1 - overlap))))
    return [int(start) for start in np.linspace(0, size - tile, number)]
