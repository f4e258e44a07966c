"""The class of every pixel of a huge image, blended where tiles overlap."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

import numpy as np

from ..overlap import map_ahead
from ..predictors import Segmentor
from ..prepared import NamedImage
from .grid import Tile, tile_rows
from .raster import Raster


def segment_in_tiles(
    segmentor: Segmentor, raster: Raster, tile: int, overlap: float, workers: int = 0
) -> Generator[np.ndarray, None, None]:
    """Yields bands of labels (rows, width) from the top down, which make up the image; tiles as `tile_rows` lays them.

    Labels are indices of the classes, uint8, or uint16 for more than 256. Where tiles overlap, their logits are
    averaged, each with a weight that falls to zero at the edge of its tile, so that no seam shows. In memory are one
    tile, a band of labels, and in float16 the logits of what a row of tiles shares with the next.
    Raises ValueError or RuntimeError with the place of the first tile that has no result.
    """
    rows = tile_rows(raster.height, raster.width, tile, overlap)
    places = (place for row in rows for place in row)
    # One thread: GDAL's open files are for one at a time.
    prepared = map_ahead(
        lambda place: segmentor.prepare(NamedImage(raster.name_of(place), raster.read(place))), places, min(workers, 1)
    )
    dtype = np.uint8 if len(segmentor.classes) <= 256 else np.uint16
    with closing(prepared):  # nothing is read any more when the caller closes the file
        yield from blend(rows, map(segmentor.logits, prepared), lambda one: _labels_of(segmentor, one).astype(dtype))


def blend(
    rows: Sequence[Sequence[Tile]], logits: Iterator[np.ndarray], labels_of: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yields bands of labels; ``logits`` (classes, height, width) come for each tile, row by row.

    Each band ends where the next row of tiles begins. A block of a tile is done when neither a tile to the right nor
    one below adds to it.
    """
    columns = [(place.left, place.right) for place in rows[0]]
    across, down = _weights(columns), _weights([(row[0].top, row[0].bottom) for row in rows])
    width = columns[-1][1]
    tops = [row[0].top for row in rows] + [rows[-1][0].bottom]
    shared = max(row[0].bottom - top for row, top in zip(rows, tops[1:], strict=True))
    above: np.ndarray | None = None  # (classes, rows, width): what the tiles above gave to rows of this row of tiles
    for number, row in enumerate(rows):
        height = tops[number + 1] - tops[number]
        band, carry = None, None  # `carry`: what the tiles to the left gave to columns of this one
        for i, place in enumerate(row):
            summed = next(logits).astype(np.float32) * (down[number][:, None] * across[i])
            if carry is not None:
                summed[..., : carry.shape[2]] += carry
            ends = columns[i + 1][0] if i + 1 < len(row) else width
            block, carry = np.split(summed, [ends - place.left], axis=2)
            if above is None:
                above = np.zeros((len(block), shared, width), np.float16)
            strip = above[..., place.left : ends]
            used = min(shared, block.shape[1])
            block[:, :used] += strip[:, :used]
            strip[:] = 0  # the same memory takes what this block gives to the row below
            strip[:, : block.shape[1] - height] = block[:, height:]
            labels = labels_of(block[:, :height])
            if band is None:
                band = np.empty((height, width), labels.dtype)
            band[:, place.left : ends] = labels
        assert band is not None
        yield band


def _weights(spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Gives the weights of each span (start, end), float32; those of all spans over a pixel sum to one."""
    size = spans[-1][1]
    raw = []
    for start, end in spans:
        places = np.arange(start, end) + 0.5
        to_start = places - start if start else np.full_like(places, np.inf)
        to_end = end - places if end < size else np.full_like(places, np.inf)
        raw.append(np.minimum(np.minimum(to_start, to_end), size))
    total = np.zeros(size)
    for (start, end), weights in zip(spans, raw, strict=True):
        total[start:end] += weights
    return [(weights / total[start:end]).astype(np.float32) for (start, end), weights in zip(spans, raw, strict=True)]


def _labels_of(segmentor: Segmentor, logits: np.ndarray) -> np.ndarray:
    """The classes (height, width) that logits mean, as mmseg reads them."""
    if len(logits) > 1:
        return logits.argmax(axis=0)
    return 1 / (1 + np.exp(-logits[0])) > segmentor.model.decode_head.threshold
