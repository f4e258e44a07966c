"""Matches what was found with what is there as pycocotools does, and scores it."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FOREGROUND = 0.5  # the IoU from which an object counts as found; the first of pycocotools' ten
UNMATCHED, IN_CROWD = -1, -2
SIZES = ('small', 'medium', 'large')


class Matches(NamedTuple):
    """The D predictions of an image, best first, beside its G objects; both are entries in COCO's format.

    ``labels`` (D,) and ``object_labels`` (G,) count the classes. ``ious`` (D, G) are of boxes or masks, whatever the
    class. ``partners`` (D,): the place of the object that pycocotools gives a prediction at an IoU of 0.5, UNMATCHED,
    or IN_CROWD, which counts for nothing. Crowds are not among the objects.
    """

    image: Any
    found: list[dict[str, Any]]
    objects: list[dict[str, Any]]
    labels: np.ndarray
    object_labels: np.ndarray
    ious: np.ndarray
    partners: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Of the predictions, (D,)."""
        return np.array([item['score'] for item in self.found], dtype=float)


class Evaluation:
    """pycocotools' evaluation of ``found`` beside ``truth``; ``categories`` are the K ids of the classes, in order.

    ``kind`` is 'bbox' or 'segm'. Of each class, the 100 best of an image count.
    """

    def __init__(self, truth: COCO, found: list[dict[str, Any]], kind: str, categories: Sequence[int]):
        self.kind, self.categories = kind, list(categories)
        # A mask of its box and not of its own area would count as small, medium or large.
        entries = [{k: v for k, v in item.items() if kind == 'bbox' or k != 'bbox'} for item in found]
        with contextlib.redirect_stdout(io.StringIO()):
            self.result = COCOeval(truth, truth.loadRes(entries), kind)
            self.result.params.catIds = self.categories
            self.result.evaluate()
            self.result.accumulate()
        # It sorts the ids of the classes.
        self.order = [list(self.result.params.catIds).index(number) for number in self.categories]

    @property
    def precision(self) -> np.ndarray:
        """(10 IoUs, 101 recalls, K, sizes: all, small, medium, large); -1 for a class without such objects."""
        return self.result.eval['precision'][..., -1][:, :, self.order]

    def average_precisions(self) -> dict[str, np.ndarray]:
        """AP, AP50, AP75 and AP of each size by class, (K,) in 0..1; NaN for a class without such objects."""
        by_size = self.precision.mean((0, 1)).T
        by_iou = self.precision[..., 0].mean(1)
        found = {'AP': by_size[0], 'AP50': by_iou[0], 'AP75': by_iou[5], **dict(zip(SIZES, by_size[1:], strict=True))}
        return {name: np.where(values < 0, np.nan, values) for name, values in found.items()}

    def images(self) -> Iterator[Matches]:
        """Yields the matches of each image, those without predictions or objects too."""
        params, cells = self.result.params, self.result.evalImgs
        of_class = len(params.areaRng) * len(params.imgIds)
        for i, image in enumerate(params.imgIds):
            # The first of the sizes is all of them, the first of the IoUs 0.5.
            yield self._matches(image, [cells[k * of_class + i] for k in self.order])

    def _matches(self, image: Any, cells: Sequence[dict[str, Any] | None]) -> Matches:
        truth, found = self.result.cocoGt.anns, self.result.cocoDt.anns
        objects: list[dict[str, Any]] = []
        rows: list[tuple] = []
        label_of = {number: label for label, number in enumerate(self.categories)}
        for cell in filter(None, cells):
            kept = [number for number, skip in zip(cell['gtIds'], cell['gtIgnore'], strict=True) if not skip]
            places = {number: len(objects) + i for i, number in enumerate(kept)} | {0: UNMATCHED}
            objects += [truth[number] for number in kept]
            for number, match in zip(cell['dtIds'], cell['dtMatches'][0], strict=True):
                rows.append((found[number], places.get(int(match), IN_CROWD)))
        rows.sort(key=lambda row: -row[0]['score'])
        shapes = [[self._shape(item) for item in items] for items in ([row[0] for row in rows], objects)]
        ious = np.asarray(masks.iou(*shapes, [0] * len(objects)), dtype=float).reshape(len(rows), len(objects))
        return Matches(
            image,
            [row[0] for row in rows],
            objects,
            np.array([label_of[row[0]['category_id']] for row in rows], dtype=int),
            np.array([label_of[item['category_id']] for item in objects], dtype=int),
            ious,
            np.array([row[1] for row in rows], dtype=int),
        )

    def _shape(self, item: dict[str, Any]) -> Any:
        return item['bbox'] if self.kind == 'bbox' else self.result.cocoGt.annToRLE(item)
