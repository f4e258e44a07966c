"""Reads the outlines and run lengths of COCO's masks just far enough to say where a mask lies, or that it is broken."""

import math
from typing import Any

import numpy as np

Bounds = tuple[float, float, float, float]


def mask_bounds(segmentation: Any) -> tuple[Bounds, tuple[int, int] | None]:
    """Gives ((x1, y1, x2, y2) in pixels, None or the (height, width) that run lengths are written for).

    Raises ValueError, with the reason, for a mask that does not decode or is empty.
    """
    try:
        if isinstance(segmentation, dict):
            size = (int(segmentation['size'][0]), int(segmentation['size'][1]))
            return _runs_bounds(_runs(segmentation['counts']), size), size
        return _polygon_bounds(segmentation), None
    except (TypeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(
            f'neither [[x, y, x, y, ...], ...] nor run lengths ({type(error).__name__}: {error})'
        ) from error


def _polygon_bounds(polygons: list[list[float]]) -> Bounds:
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError('a polygon has an odd number of coordinates')
    kept = [polygon for polygon in polygons if len(polygon) >= 6]  # as mmdet does
    if not kept:
        raise ValueError('no polygon has three points')
    if not math.isfinite(sum(map(sum, kept))):
        raise ValueError('a coordinate is NaN or infinite')
    xs, ys = [polygon[::2] for polygon in kept], [polygon[1::2] for polygon in kept]
    return min(map(min, xs)), min(map(min, ys)), max(map(max, xs)), max(map(max, ys))


def _runs(counts: list[int] | str) -> np.ndarray:
    """Gives the run lengths, of zeros and ones in turn; a string holds them as pycocotools' ``rleFrString`` reads it.

    A character carries 5 bits, the lowest first, and a flag that more follow; from the fourth on a number is the
    difference to the number before the last.
    """
    if not isinstance(counts, str):
        return np.asarray(counts, dtype=np.int64)
    codes = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    if codes.size == 0 or (codes < 0).any() or (codes > 63).any() or codes[-1] & 32:
        raise ValueError('the string of run lengths is broken')
    ends = np.flatnonzero(~codes & 32 > 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(codes.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 11:
        raise ValueError('the string of run lengths is broken')
    numbers = np.add.reduceat((codes & 31) << 5 * place, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * (ends - starts + 1), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _runs_bounds(runs: np.ndarray, size: tuple[int, int]) -> Bounds:
    height, width = size
    if runs.size == 0 or runs.min() < 0 or runs.sum() != height * width:
        raise ValueError(f'the run lengths sum to {runs.sum()}, and not to {height} x {width}')
    ends = np.cumsum(runs)[1::2]
    starts = ends - runs[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts] - 1  # pixels down the columns, both included
    if not starts.size:
        raise ValueError('the mask is empty')
    same_column = starts // height == ends // height
    top = np.where(same_column, starts % height, 0).min()
    bottom = np.where(same_column, ends % height, height - 1).max() + 1
    return float(starts[0] // height), float(top), float(ends[-1] // height + 1), float(bottom)
