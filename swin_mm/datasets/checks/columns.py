"""Reads annotations in COCO's format into columns of numbers: a million objects in a few hundred megabytes."""

import gc
import json
import os
from array import array
from typing import Any

import numpy as np

from .mask_bounds import mask_bounds

NUMBERS = ('x', 'y', 'width', 'height', 'area', 'crowd', 'ignored', 'x1', 'y1', 'x2', 'y2', 'mask_height', 'mask_width')
NO_MASK = (np.nan,) * 6


class CocoColumns:
    """The annotations of a file.

    ``images`` and ``categories`` are the dicts of the file. ``ids``, ``image_ids`` and ``category_ids`` have an entry
    for each whole annotation, and ``number(name)`` gives (N,) float64 of ``NUMBERS``: the box in pixels, its area, two
    flags, the bounds of the mask and the size that its run lengths are written for, NaN where there is none.
    ``faults`` has (annotation id, reason) of those that mmdet could not read, ``mask_faults`` of broken masks.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads ``path``; raises ValueError if it is no file of COCO's format, OSError if it cannot be read."""
        self.ids: list[Any] = []
        self.image_ids: list[Any] = []
        self.category_ids: list[Any] = []
        self.faults: list[tuple[Any, str]] = []
        self.mask_faults: list[tuple[Any, str]] = []
        self._numbers = array('d')
        collecting = gc.isenabled()
        gc.disable()  # it would look through millions of objects again and again, and none is garbage
        try:
            with open(path, encoding='utf-8') as file:
                content = json.load(file, object_hook=self._take)
        finally:
            if collecting:
                gc.enable()
        if not isinstance(content, dict):
            raise ValueError('it must hold an object with images, annotations and categories')
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(content.get(key, []), list):
                raise ValueError(f'{key} must be a list, got {type(content[key]).__name__}')
        self.missing = [key for key in ('images', 'annotations', 'categories') if key not in content]
        self.images: list[Any] = content.get('images', [])
        self.categories: list[Any] = content.get('categories', [])
        strange = [item for item in content.get('annotations', []) if item is not None]
        self.faults += [(None, f'it has neither image_id nor bbox: {str(item)[:60]}') for item in strange]
        self.table = np.frombuffer(self._numbers, dtype=np.float64).reshape(-1, len(NUMBERS))

    def number(self, name: str) -> np.ndarray:
        """One of ``NUMBERS`` of each annotation, (N,) float64."""
        return self.table[:, NUMBERS.index(name)]

    def _take(self, item: dict) -> dict | None:
        """Takes an annotation to the columns as soon as it is parsed, and leaves None in its place."""
        if 'bbox' not in item and 'image_id' not in item:
            return item  # an image, a category, run lengths or the whole file
        try:
            x, y, width, height = item['bbox']
            row = (x, y, width, height, item['area'], bool(item.get('iscrowd')), bool(item.get('ignore')))
            key = item['id'], item['image_id'], item['category_id']
            hash(key)
            values = array('d', row)  # a string or None is refused
        except KeyError as error:
            self.faults.append((item.get('id'), f'it has no {error.args[0]}'))
            return None
        except (TypeError, ValueError, OverflowError):
            self.faults.append((item.get('id'), f'bbox={item["bbox"]} area={item.get("area")} are not five numbers'))
            return None
        values.extend(self._mask(item))
        self._numbers.extend(values)
        for column, value in zip((self.ids, self.image_ids, self.category_ids), key, strict=True):
            column.append(value)
        return None

    def _mask(self, item: dict) -> tuple[float, ...]:
        if not item.get('segmentation'):
            return NO_MASK
        try:
            bounds, size = mask_bounds(item['segmentation'])
            return (*bounds, *(size or NO_MASK[:2]))
        except ValueError as error:
            self.mask_faults.append((item['id'], str(error)))
            return NO_MASK
