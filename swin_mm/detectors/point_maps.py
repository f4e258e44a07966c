"""What a RepPoints V2 head says of each level of maps, and the boxes in it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional


class LevelMaps(NamedTuple):
    """What the head says of one level, each (B, channels, H, W).

    ``first`` and ``refined`` are nine points (y, x) each, in strides and relative to their place in the map. Corners
    are the top left, then the bottom right one: a score each, and an offset (x, y) each in strides. Scores and
    ``classes`` are logits. ``mask_weights`` is None in a head without masks.
    """

    scores: Tensor
    first: Tensor
    refined: Tensor
    corner_scores: Tensor
    corner_offsets: Tensor
    classes: Tensor
    mask_weights: Tensor | None

    def of_image(self, index: int) -> 'LevelMaps':
        """Gives the maps of one image, each (channels, H, W)."""
        return LevelMaps._make(None if maps is None else maps[index] for maps in self)


def flatten(maps: Sequence[Tensor]) -> Tensor:
    """Gives (B, P, channels) in float32 or wider, level after level, for ``maps`` (B, channels, H, W)."""
    flat = torch.cat([x.flatten(2) for x in maps], 2).transpose(1, 2)
    return flat.to(torch.promote_types(flat.dtype, torch.float32))


def points_to_boxes(points: Tensor, grid: Tensor) -> Tensor:
    """Gives boxes (..., P, 4) in pixels: their corners are the first two of the points (..., P, 18).

    ``grid`` (P, 3) are the places of the points, (x, y, stride) in pixels.
    """
    return points[..., [1, 0, 3, 2]] * grid[:, 2:] + grid[:, :2].repeat(1, 2)


def snap_to_corners(boxes: Tensor, maps: LevelMaps, stride: int) -> Tensor:
    """Moves both corners of ``boxes`` (n, 4), in pixels, to the best of the four cells around them.

    ``maps`` are those of one image at a level of ``stride`` pixels, which has at least 2x2 cells.
    """
    corners = []
    for i, xy in enumerate((boxes[:, :2], boxes[:, 2:])):
        heat = maps.corner_scores[i].to(boxes).sigmoid()
        _, best = functional.max_pool2d(heat[None], 2, stride=1, return_indices=True)
        height, width = best.shape[1:]
        x, y = (xy / stride).clamp(min=0).unbind(1)
        cell = best[0, y.clamp(max=height - 1).long(), x.clamp(max=width - 1).long()]
        place = torch.stack([cell % heat.shape[1], cell // heat.shape[1]], 1)
        offset = maps.corner_offsets[2 * i : 2 * i + 2].to(boxes).flatten(1)[:, cell].T
        corners.append((place + offset) * stride)
    return torch.cat(corners, 1)


def clip(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Gives ``boxes`` (n, 4) cut at the sides of an image of ``size`` (height, width)."""
    return boxes.minimum(boxes.new_tensor([size[1], size[0]] * 2)).clamp(min=0)


def find_objects(
    levels: Sequence[LevelMaps], grids: Sequence[Tensor], meta: dict, cfg: dict, rescale: bool
) -> tuple[InstanceData, Tensor]:
    """Gives the objects of one image, best first, and the point of each: (n,), counted through all levels.

    Args:
        levels: Maps of the image, from fine to coarse.
        grids: Places of the points of each level, (P, 3) as (x, y, stride) in pixels.
        meta: ``img_shape`` (height, width) and, to ``rescale``, ``scale_factor`` (x, y).
        cfg: ``nms_pre``, ``score_thr``, ``nms`` and ``max_per_img``, as in mmdet's heads.
        rescale: Whether boxes are in pixels of the original image, not of the network's.
    """
    from mmdet.models.layers import multiclass_nms

    boxes, scores, points, start = [], [], [], 0
    for i, (maps, grid) in enumerate(zip(levels, grids, strict=True)):
        score = flatten([maps.scores[None]])[0].sigmoid()
        box = points_to_boxes(flatten([maps.refined[None]])[0], grid)
        point = torch.arange(len(score), device=score.device)
        if 0 < cfg['nms_pre'] < len(score):
            point = score.amax(1).topk(cfg['nms_pre']).indices
        box = clip(box[point], meta['img_shape'])
        if i:  # fine maps see corners best: levels 1 and 2 ask level 0, coarser ones level 1
            finer = min((i - 1) // 2, 1)
            box = clip(snap_to_corners(box, levels[finer], int(grids[finer][0, 2])), meta['img_shape'])
        boxes.append(box)
        scores.append(score[point])
        points.append(point + start)
        start += len(score)
    all_boxes = torch.cat(boxes)
    if rescale:
        all_boxes = all_boxes / all_boxes.new_tensor(meta['scale_factor']).repeat(2)
    all_scores = functional.pad(torch.cat(scores), (0, 1))  # a column for the background, which is ignored
    found, labels, index = multiclass_nms(
        all_boxes, all_scores, cfg['score_thr'], cfg['nms'], cfg['max_per_img'], return_inds=True
    )
    result = InstanceData(bboxes=found[:, :4], scores=found[:, 4], labels=labels)
    return result, torch.cat(points)[index // (all_scores.shape[1] - 1)]
