"""Asks and mends single annotations in COCO's format, whatever stands in them."""

import math
from typing import Any

from .annotations import BOX_SLACK, MOST_PIXELS
from .mask_bounds import mask_bounds
from .outlines import clip_polygon


def is_size(size: tuple) -> bool:
    """Whether (width, height) are numbers of pixels."""
    return all(type(side) in (int, float) and 0 < side < MOST_PIXELS for side in size)


def numbers(values: Any, count: int = 4) -> list[float] | None:
    """``values`` if they are a list of ``count`` finite numbers, else None."""
    if not isinstance(values, list) or len(values) != count or not all(type(v) in (int, float) for v in values):
        return None
    try:
        return values if all(map(math.isfinite, values)) else None
    except OverflowError:  # an integer that no float holds
        return None


def mask_box(item: dict) -> list[float] | None:
    """Gives the box [x, y, width, height] around the mask of an annotation; None if it has none that is whole."""
    try:
        x1, y1, x2, y2 = mask_bounds(item['segmentation'])[0]
    except (KeyError, ValueError):
        return None
    return [x1, y1, x2 - x1, y2 - y1]


def lacks_mask(item: dict) -> bool:
    """Whether mmdet would look for a mask of an annotation, and find none."""
    return not item.get('segmentation') and not item.get('ignore')


def has_broken_mask(item: dict, size: tuple) -> bool:
    """Whether a mask does not decode, is empty, or is not for an image of ``size``, (width, height)."""
    if not item.get('segmentation'):
        return False
    try:
        written_for = mask_bounds(item['segmentation'])[1]
    except ValueError:
        return True
    return written_for is not None and is_size(size) and written_for != size[::-1]


def is_outside(item: dict, size: tuple) -> bool:
    """Whether a box reaches out of an image of ``size``, (width, height), by more than rounding explains."""
    box = numbers(item.get('bbox'))
    if box is None or not is_size(size):
        return False
    x, y, width, height = box
    return max(-x, -y, x + width - size[0], y + height - size[1]) > BOX_SLACK


def clip(item: dict, size: tuple) -> None:
    """Clips the box and the polygons of an annotation to an image of ``size``, (width, height)."""
    x, y, width, height = item['bbox']
    left, top = max(x, 0), max(y, 0)
    item['bbox'] = [left, top, min(x + width, size[0]) - left, min(y + height, size[1]) - top]
    if isinstance(item.get('segmentation'), list) and mask_box(item):
        polygons = [clip_polygon(polygon, *size) for polygon in item['segmentation']]
        item['segmentation'] = [polygon for polygon in polygons if polygon]
    if area := numbers([item.get('area')], 1):
        item['area'] = min(area[0], max(item['bbox'][2], 0) * max(item['bbox'][3], 0))
