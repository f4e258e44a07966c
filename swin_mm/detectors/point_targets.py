"""Which object each point of the maps learns: the two assignments of RepPoints V2.

Source: ``point_assigner_v2.py`` and ``atss_assigner_v2.py`` of the official Swin detection repository. Boxes are
(x1, y1, x2, y2) in pixels; an assignment is (P,), for each point the index of its object, or -1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def assign_nearest(points: Tensor, boxes: Tensor, centers: Tensor, scale: float) -> Tensor:
    """Gives each object the nearest point of one level, and a point that several want to the nearest of them.

    Distances are in widths and heights of the object's box. Of its level the stride times ``scale`` is about the side
    of the box.

    Args:
        points: (P, 3) as (x, y, stride) in pixels; strides are powers of 2.
        boxes: (G, 4) of the objects.
        centers: (G, 2) of the objects.
        scale: Side of a box in strides.
    """
    if not len(boxes) or not len(points):
        return points.new_full((len(points),), -1, dtype=torch.long)
    levels = points[:, 2].log2().int()
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    wanted = (sides / scale).log2().mean(1).int().clamp(levels.min(), levels.max())
    distances = ((points[:, None, :2] - centers) / sides).norm(dim=2)
    distances = distances.masked_fill(levels[:, None] != wanted, torch.inf)
    nearest = distances.min(0, keepdim=True)
    return _closest(torch.full_like(distances, torch.inf).scatter(0, nearest.indices, nearest.values))


def assign_adaptive(candidates: Tensor, levels: Sequence[int], boxes: Tensor, centers: Tensor, topk: int) -> Tensor:
    """Gives each object those of the nearest candidates whose overlap stands out.

    Near are the ``topk`` of each level whose centres are nearest to the object's. An overlap stands out if it reaches
    the mean of theirs plus the standard deviation; the candidate's centre must also lie inside the object's box. A
    candidate of several objects goes to that with the largest overlap. (ATSS, Zhang et al. 2020, arXiv 1912.02424,
    section 3.2.)

    Args:
        candidates: (P, 4) boxes, level after level.
        levels: Number of candidates of each level.
        boxes: (G, 4) of the objects.
        centers: (G, 2) of the objects.
        topk: Number of candidates of each level.
    """
    from mmdet.structures.bbox import bbox_overlaps

    if not len(boxes) or not len(candidates):
        return candidates.new_full((len(candidates),), -1, dtype=torch.long)
    overlaps = bbox_overlaps(candidates, boxes)
    places = (candidates[:, :2] + candidates[:, 2:]) / 2
    distances = (places[:, None] - centers).pow(2).sum(-1).sqrt()
    chosen, start = [], 0
    for level in distances.split(list(levels)):
        # Officially a level of fewer points is filled up at random, here in turn: the mean is over topk of each level.
        nearest = level.topk(min(topk, len(level)), dim=0, largest=False).indices + start
        chosen.append(nearest[torch.arange(topk) % len(level)])
        start += len(level)
    index = torch.cat(chosen)
    found = overlaps.gather(0, index)
    stands_out = found >= found.mean(0) + found.std(0)
    inside = torch.cat([places[index] - boxes[:, :2], boxes[:, 2:] - places[index]], -1).amin(-1) > 0.01
    distances = (-found).masked_fill(~(stands_out & inside), torch.inf)
    return _closest(torch.full_like(overlaps, torch.inf).scatter(0, index, distances))


def _closest(distances: Tensor) -> Tensor:
    """Gives the column of the smallest of ``distances`` (P, G) in each row, or -1 where all are infinite."""
    smallest = distances.min(1)
    return smallest.indices.masked_fill(smallest.values.isinf(), -1)
