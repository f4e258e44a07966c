"""Checks annotations in COCO's format for what mmdet would skip in silence or trip over."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .columns import CocoColumns
from .findings import Findings, Offender

SKIPPED_SHARE = 0.01  # of the annotations; mmdet steps over some broken ones, as COCO has them; more are a broken file
MOST_PIXELS = 2**31  # of a side; larger numbers are no size
BOX_SLACK, MASK_SLACK = 1.0, 2.0  # pixels: what rounding explains


def check_images_list(coco: CocoColumns, found: Findings) -> None:
    """Checks the entries of the images, and keeps only whole ones in ``coco``."""
    broken = [str(image)[:80] for image in coco.images if not _is_whole(image)]
    sentence = 'images need id, file_name, and width and height above 0'
    found.add('error', 'image-keys', sentence, broken, len(broken))
    coco.images[:] = [image for image in coco.images if _is_whole(image)]
    _add_repeated(found, 'error', 'duplicate-image-id', 'image ids stand twice', (i['id'] for i in coco.images))
    files = (image['file_name'] for image in coco.images)
    _add_repeated(found, 'warning', 'duplicate-file', 'files are listed as more than one image', files)


def check_annotations(coco: CocoColumns, paths: Sequence[str], masks: bool, found: Findings) -> None:
    """Checks the ids, the boxes and, with ``masks``, the masks of ``coco``; its images and categories are whole.

    ``paths`` are the files of its images.
    """
    check = _Check(coco, paths, found)
    check.ids()
    check.boxes()
    if masks:
        check.masks()
    crowds = int(coco.number('crowd').sum())
    found.add(
        'note', 'crowd', 'annotations are crowds, which training ignores and COCO metrics do not count', (), crowds
    )


def _is_whole(image: Any) -> bool:
    return (
        isinstance(image, dict)
        and isinstance(image.get('file_name'), str)
        and image.get('id') is not None
        and isinstance(image['id'], Hashable)
        and all(type(image.get(key)) in (int, float) and 0 < image[key] < MOST_PIXELS for key in ('width', 'height'))
    )


def _add_repeated(found: Findings, severity: str, check: str, sentence: str, keys: Iterable[Any]) -> None:
    repeated = [str(key) for key, count in Counter(keys).items() if count > 1]
    found.add(severity, check, sentence, repeated, len(repeated))


class _Check:
    """The annotations of one file beside their images; a mask of annotations is (N,) bool."""

    def __init__(self, coco: CocoColumns, paths: Sequence[str], found: Findings):
        self.coco, self.paths, self.found = coco, paths, found
        places = {image['id']: i for i, image in enumerate(coco.images)}
        self.image = np.array([places.get(key, -1) for key in coco.image_ids], dtype=np.int64)
        # Width and height of each annotation's image, NaN where it is unknown: comparisons with NaN are false.
        sizes = [(image['width'], image['height']) for image in coco.images]
        table = np.array([*sizes, (np.nan, np.nan)], dtype=np.float64)
        self.image_width, self.image_height = table[self.image].T
        self.x, self.y, self.width, self.height = (coco.number(name) for name in ('x', 'y', 'width', 'height'))

    def ids(self) -> None:
        coco = self.coco
        named = [f'annotation {key}: {reason}' for key, reason in coco.faults]
        self.found.add('error', 'annotation-keys', 'annotations lack what mmdet reads', named, len(named))
        _add_repeated(self.found, 'error', 'duplicate-id', 'annotation ids stand twice, which mmdet refuses', coco.ids)
        keys = [item['id'] for item in coco.categories]
        _add_repeated(self.found, 'error', 'duplicate-category', 'category ids stand twice', keys)
        numbers = sorted({key for key in keys if isinstance(key, int)})
        gaps = [f'{a} to {b}' for a, b in pairwise(numbers) if b > a + 1]
        self.found.add('note', 'category-gaps', 'gaps are in the category ids, which is allowed', gaps, len(gaps))
        lost = self.image < 0
        self.step_over('unknown-image', 'annotations are of images that the file does not list', lost)
        known = set(keys)
        lost = np.array([key not in known for key in coco.category_ids], dtype=bool)
        shown = [f'category {key}' for key in coco.category_ids] if lost.any() else None
        self.step_over('unknown-category', 'annotations are of categories that the file does not list', lost, shown)

    def boxes(self) -> None:
        area = self.coco.number('area')
        broken = ~np.isfinite(np.stack([self.x, self.y, self.width, self.height, area])).all(axis=0)
        sentence = 'boxes (x, y, width, height) or areas are NaN or infinite'
        self.found.add('error', 'box-nan', sentence, self.named(broken), broken.sum())
        empty = ~broken & ((self.width < 1) | (self.height < 1) | (area <= 0))
        sentence = (
            'boxes (x, y, width, height) are under a pixel wide or high, or their area is 0: mmdet leaves them out'
        )
        self.step_over('box-empty', sentence, empty)
        beyond = [-self.x, -self.y, self.x + self.width - self.image_width, self.y + self.height - self.image_height]
        outside = ~broken & ~empty & (np.stack(beyond) > BOX_SLACK).any(axis=0)
        sentence = 'boxes reach out of their image: they must be (x, y, width, height) in pixels of that image'
        self.step_over('box-outside', sentence, outside)

    def masks(self) -> None:
        coco, found = self.coco, self.found
        named = [f'annotation {key}: {reason}' for key, reason in coco.mask_faults]
        found.add(self.severity(len(named)), 'mask-broken', 'masks do not decode or are empty', named, len(named))
        faulty = {key for key, _ in coco.mask_faults}
        without = np.isnan(coco.number('x1')) & (coco.number('ignored') == 0)
        if faulty:
            without &= np.array([key not in faulty for key in coco.ids], dtype=bool)
        sentence = (
            'annotations have no segmentation, but the config loads masks: leave them out, or take a model of boxes'
        )
        found.add('error', 'mask-missing', sentence, self.named(without), without.sum())
        height, width = coco.number('mask_height'), coco.number('mask_width')
        known = ~np.isnan(height) & (self.image >= 0)
        other = known & ((height != self.image_height) | (width != self.image_width))
        sentence = 'run lengths are of another size than their image (height x width)'
        shown = (
            [f'{height[i]:g} x {width[i]:g}' if other[i] else '' for i in range(len(other))] if other.any() else None
        )
        found.add('error', 'mask-size', sentence, self.named(other, shown), other.sum())
        x1, y1, x2, y2 = (coco.number(name) for name in ('x1', 'y1', 'x2', 'y2'))
        beyond = [self.x - x1, self.y - y1, x2 - self.x - self.width, y2 - self.y - self.height]
        outside = ~other & (np.stack(beyond) > MASK_SLACK).any(axis=0)
        sentence = f'masks reach more than {MASK_SLACK:g} pixels out of their box (x, y, width, height)'
        self.step_over('mask-outside', sentence, outside)

    def step_over(self, check: str, sentence: str, mask: np.ndarray, shown: list[str] | None = None) -> None:
        """Adds what training can do without: a warning, but an error if it is many."""
        self.found.add(self.severity(mask.sum()), check, sentence, self.named(mask, shown), mask.sum())

    def severity(self, count: int) -> str:
        return 'error' if count > SKIPPED_SHARE * len(self.coco.ids) else 'warning'

    def named(self, mask: np.ndarray, shown: list[str] | None = None) -> Iterator[Offender]:
        """Yields a line for each annotation of ``mask``, with ``shown`` of it, or its box."""
        for i in np.flatnonzero(mask):
            box = tuple(self.coco.table[i, :4].tolist())
            text = shown[i] if shown else f'({", ".join(f"{value:g}" for value in box)})'
            path = self.paths[self.image[i]] if self.image[i] >= 0 else None
            yield Offender(f'annotation {self.coco.ids[i]} of image {self.coco.image_ids[i]}: {text}', path, box)
