"""Non-maximum suppression: hard, soft, and with the groups that it finds (mmcv ``csrc/pytorch/cpu/nms.cpp``)."""

import numpy as np
import torch
import torchvision
from torch import Tensor

__all__ = ['nms', 'nms_match', 'softnms']


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Gives the indices of the kept boxes, (K,), by falling score.

    ``boxes`` (N, 4) are (x1, y1, x2, y2) in pixels; a side is x2 - x1 + ``offset``. A box is dropped when its overlap
    with a kept one is above ``iou_threshold``. Boxes of equal score keep their order; in mmcv any order may come out.
    """
    boxes = boxes.float()
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # Boxes and threshold are float32 as in mmcv: an overlap of exactly 0.6 is then not above a threshold of 0.6.
    return torchvision.ops.nms(boxes, scores.float(), float(np.float32(iou_threshold)))


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Gives groups of indices: a kept box, then the boxes that it suppressed, by falling score.

    ``dets`` (N, 5) are (x1, y1, x2, y2, score). Unlike in `nms`, an overlap equal to the threshold suppresses.
    """
    boxes = dets[:, :4].float()
    order = dets[:, 4].float().argsort(descending=True, stable=True)
    groups = []
    while len(order):
        first, others = order[0], order[1:]
        suppressed = torchvision.ops.box_iou(boxes[first, None], boxes[others])[0] >= iou_threshold
        groups.append([int(first), *others[suppressed].tolist()])
        order = others[~suppressed]
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Gives the indices of the kept boxes, (K,), by falling decayed score; fills ``dets[:K]`` with boxes and scores.

    Method 0 sets the score of a box that overlaps a better one by ``iou_threshold`` or more to 0, method 1 multiplies
    it by 1 - overlap, method 2 multiplies every score by exp(-overlap^2 / ``sigma``). A box whose score falls below
    ``min_score`` is dropped. Source: Soft-NMS, Bodla et al. 2017, section 3; mmcv passes CPU tensors only.
    """
    table = torch.cat([boxes.float(), scores.float()[:, None]], 1)
    indices = torch.arange(len(table), device=table.device)
    i = 0
    while i < len(table):
        # The best of the rest moves to row i. NaN counts as worst: two boxes without area overlap by 0 / 0.
        best = i + int(table[i:, 4].nan_to_num(nan=-torch.inf).argmax())
        for rows in (table, indices):
            rows[[i, best]] = rows[[best, i]]
        i += 1
        table[i:, 4] *= _decay(_overlap(table[i - 1], table[i:], offset), iou_threshold, sigma, method)
        keep = _fill_holes(table[:, 4], i, min_score)
        table, indices = table[keep], indices[keep]
    dets[: len(table)] = table
    return indices


def _overlap(box: Tensor, others: Tensor, offset: int) -> Tensor:
    sides = torch.minimum(box[2:4], others[:, 2:4]) - torch.maximum(box[:2], others[:, :2]) + offset
    intersection = sides.clamp(min=0).prod(-1)
    area, areas = (box[2:4] - box[:2] + offset).prod(-1), (others[:, 2:4] - others[:, :2] + offset).prod(-1)
    return intersection / (area + areas - intersection)


def _decay(overlap: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    if method == 2:
        return torch.exp(-(overlap**2) / sigma)
    suppressed = 1 - overlap if method == 1 else 0.0
    return torch.where(overlap >= iou_threshold, suppressed, 1.0)


def _fill_holes(scores: Tensor, start: int, min_score: float) -> Tensor:
    """Gives indices without the scores below ``min_score`` from ``start`` on; the last indices fill the gaps.

    mmcv drops boxes in this order, and the order decides which of two equal scores comes first.
    """
    dropped = scores < min_score
    dropped[:start] = False
    keep = torch.arange(len(scores), device=scores.device)
    count = len(scores) - int(dropped.sum())
    keep[:count][dropped[:count]] = keep[count:][~dropped[count:]].flip(0)
    return keep[:count]
