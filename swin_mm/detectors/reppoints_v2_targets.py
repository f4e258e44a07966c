"""What each point of a batch learns in RepPoints V2."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .corner_targets import corner_targets
from .point_targets import assign_adaptive, assign_nearest


class PointTargets(NamedTuple):
    """What P points of an image learn, or those of B images with a dimension in front.

    ``valid`` (P,): the point lies on the image or its own padding. ``first`` and ``refined`` (P,) are the objects of
    the first and the refined box, indices or -1, and ``first_boxes`` and ``refined_boxes`` (P, 4) their boxes in
    pixels. ``labels`` (P,) are those of ``refined``, the number of classes for none. ``heat`` (P, 2) and ``offsets``
    (P, 4) are as in `corner_targets`.
    """

    valid: Tensor
    first: Tensor
    refined: Tensor
    first_boxes: Tensor
    refined_boxes: Tensor
    labels: Tensor
    heat: Tensor
    offsets: Tensor


class Assignment(NamedTuple):
    """How points learn: ``scale`` of `assign_nearest`, ``topk`` of `assign_adaptive`, ``gaussian_iou`` of corners."""

    scale: float
    topk: int
    gaussian_iou: float
    num_classes: int

    def targets(
        self, grids: Sequence[Tensor], valid: Sequence[Tensor], candidates: Tensor, truth: Any, centers: Tensor
    ) -> PointTargets:
        """Gives what the points of one image learn.

        Args:
            grids: Places of the points of each level, (P, 3) as (x, y, stride) in pixels.
            valid: Which of them lie on the image or its own padding, (P,) a level.
            candidates: (P, 4), the first box of each point, level after level.
            truth: The objects, with ``bboxes`` (G, 4) and ``labels`` (G,).
            centers: (G, 2) of the objects.
        """
        boxes, labels = truth.bboxes, truth.labels
        is_valid, grid = torch.cat(list(valid)), torch.cat(list(grids))
        counts = [int(level.sum()) for level in valid]

        def spread(values: Tensor, fill: int) -> Tensor:
            result = values.new_full((len(grid), *values.shape[1:]), fill)
            result[is_valid] = values
            return result

        first = spread(assign_nearest(grid[is_valid], boxes, centers, self.scale), -1)
        refined = spread(assign_adaptive(candidates[is_valid], counts, boxes, centers, self.topk), -1)
        corners = corner_targets(grid[is_valid], boxes, self.gaussian_iou)
        # A row for points without an object, which is the last one: their index is -1.
        boxes = torch.cat([boxes, boxes.new_zeros(1, 4)])
        labels = torch.cat([labels, labels.new_full((1,), self.num_classes)])
        return PointTargets(
            valid=is_valid,
            first=first,
            refined=refined,
            first_boxes=boxes[first],
            refined_boxes=boxes[refined],
            labels=labels[refined],
            heat=spread(corners.heat, 0),
            offsets=spread(corners.offsets, 0),
        )
