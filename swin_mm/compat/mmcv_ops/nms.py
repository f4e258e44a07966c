"""Non-maximum suppression: hard, and with the groups that it finds (mmcv ``csrc/pytorch/cpu/nms.cpp``)."""

import numpy as np
import torchvision
from torch import Tensor

__all__ = ['nms', 'nms_match']


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
