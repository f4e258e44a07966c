"""What the corner and class maps of RepPoints V2 learn (arXiv 2007.08508, section 4).

Source: ``point_hm_assigner.py`` and ``LoadRPDV2Annotations`` of the official Swin detection repository.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class CornerTargets(NamedTuple):
    """For P points, with the top left corner first and the bottom right corner second.

    ``heat`` (P, 2) is 1 at the point of each level that is nearest to a corner, and falls around a corner as a Gaussian
    does. ``offsets`` (P, 4) lead from such a point to its corner, (x, y) and (x, y), in strides of its level.
    """

    heat: Tensor
    offsets: Tensor


def corner_targets(points: Tensor, boxes: Tensor, min_overlap: float) -> CornerTargets:
    """Gives the targets of ``points`` (P, 3), (x, y, stride) in pixels, for ``boxes`` (G, 4) in pixels.

    A Gaussian ends at the radius where a box with both corners moved that far may still overlap the true box by
    ``min_overlap``.
    """
    heat, offsets = points.new_zeros(len(points), 2), points.new_zeros(len(points), 4)
    if not len(boxes) or not len(points):
        return CornerTargets(heat, offsets)
    radius = corner_radius(boxes, min_overlap)
    sigma = (2 * radius + 1) / 6
    levels = [(points[:, 2] == stride).nonzero()[:, 0] for stride in points[:, 2].unique()]
    for i, corners in enumerate((boxes[:, :2], boxes[:, 2:])):
        distances = (points[:, None, :2] - corners).norm(dim=2)
        gaussian = torch.exp(-distances.pow(2) / (2 * sigma * sigma))
        heat[:, i] = gaussian.masked_fill(distances >= radius, 0).amax(1)
        for level in levels:
            nearest = level[distances[level].argmin(0)]
            heat[nearest, i] = 1
            # Where several boxes share a point, the last one sets the offset.
            offsets[nearest, 2 * i : 2 * i + 2] = (corners - points[nearest, :2]) / points[nearest, 2:]
    return CornerTargets(heat, offsets)


def corner_radius(boxes: Tensor, min_overlap: float) -> Tensor:
    """Gives (G,): how far the corners of ``boxes`` (G, 4) may move in both directions, in pixels.

    The least of three cases: one corner moves inwards and one outwards, both inwards, both outwards. As CornerNet's
    ``gaussian_radius``, whose quadratic formulas divide by 2a (mmdet's ``gaussian_radius``, for all boxes at once).
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    around, area = width + height, width * height
    rest = 1 - min_overlap
    one_each = (around - (around**2 - 4 * area * rest / (1 + min_overlap)).sqrt()) / 2
    inwards = (2 * around - (4 * around**2 - 16 * rest * area).sqrt()) / 8
    b = 2 * min_overlap * around
    outwards = (-b + (b**2 + 16 * min_overlap * rest * area).sqrt()) / (8 * min_overlap)
    return torch.stack([one_each, inwards, outwards]).amin(0)


def class_weights(
    boxes: Tensor, labels: Tensor, shape: tuple[int, int, int], valid: tuple[int, int], stride: int
) -> Tensor:
    """Gives maps (classes, H, W): in a cell that boxes of the class touch, 1 over the area in pixels of the smallest.

    Cells without one are 0.

    Args:
        boxes: (G, 4) in pixels.
        labels: (G,) of the boxes.
        shape: Of the result.
        valid: (height, width) of the part that the image has, without what a batch adds at the right and the bottom.
        stride: Side of a cell in pixels.
    """
    weights = boxes.new_zeros(shape)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = areas.argsort(descending=True)  # the smallest is written last
    cells = (boxes / stride).long().tolist()
    for i, label in zip(order.tolist(), labels[order].tolist(), strict=True):
        left, top, right, bottom = cells[i]
        weights[label, top : min(bottom + 1, valid[0]), left : min(right + 1, valid[1])] = 1 / areas[i]
    return weights
