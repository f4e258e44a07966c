"""Turns and clips the masks and boxes of COCO annotations."""

from typing import Any

import numpy as np

# EXIF orientations that lay an image on its side: rows become columns, then (x, y) are mirrored or not.
TURNS = {5: (False, False), 6: (True, False), 7: (True, True), 8: (False, True)}


def turn_points(points: list[float], orientation: int, width: int, height: int) -> list[float]:
    """Gives the places of [x, y, x, y, ...] of a stored image, ``width`` x ``height`` pixels, once it is shown."""
    mirror_x, mirror_y = TURNS[orientation]
    turned: list[float] = []
    for x, y in zip(points[::2], points[1::2], strict=True):
        turned += [height - y if mirror_x else y, width - x if mirror_y else x]
    return turned


def turn_box(box: list[float], orientation: int, width: int, height: int) -> list[float]:
    """Gives the box [x, y, width, height] of an image as it is shown, see `turn_points`."""
    x, y, across, down = box
    corners = turn_points([x, y, x + across, y + down], orientation, width, height)
    return [min(corners[::2]), min(corners[1::2]), down, across]


def turn_mask(segmentation: Any, orientation: int, width: int, height: int) -> Any:
    """Gives polygons or run lengths of an image as it is shown; others than whole ones stay as they are."""
    if isinstance(segmentation, dict):
        return _turn_runs(segmentation, orientation)
    whole = isinstance(segmentation, list) and all(isinstance(p, list) and len(p) % 2 == 0 for p in segmentation)
    return [turn_points(p, orientation, width, height) for p in segmentation] if whole else segmentation


def _turn_runs(runs: dict, orientation: int) -> dict:
    from pycocotools import mask as coco_mask

    height, width = runs['size']
    coded = coco_mask.frPyObjects(runs, height, width) if isinstance(runs['counts'], list) else runs
    pixels = coco_mask.decode(coded).T
    mirror_x, mirror_y = TURNS[orientation]
    pixels = pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    coded = coco_mask.encode(np.asfortranarray(pixels))
    return dict(size=coded['size'], counts=coded['counts'].decode())


def clip_polygon(points: list[float], width: int, height: int) -> list[float]:
    """Gives the part of a polygon [x, y, x, y, ...] within an image, [] if there is none.

    An edge of the image after the other cuts it: Sutherland and Hodgman, 'Reentrant Polygon Clipping', 1974.
    """
    corners = list(zip(points[::2], points[1::2], strict=True))
    for axis, bound, side in ((0, 0, 1), (1, 0, 1), (0, width, -1), (1, height, -1)):
        kept: list[tuple[float, float]] = []
        for last, corner in zip(corners[-1:] + corners[:-1], corners, strict=True):
            before, after = side * (last[axis] - bound), side * (corner[axis] - bound)
            if before * after < 0:
                share = before / (before - after)
                kept.append((last[0] + share * (corner[0] - last[0]), last[1] + share * (corner[1] - last[1])))
            if after >= 0:
                kept.append(corner)
        corners = kept
    return [value for corner in corners for value in corner] if len(corners) >= 3 else []
