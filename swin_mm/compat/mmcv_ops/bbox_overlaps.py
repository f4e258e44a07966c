"""Box overlaps (mmcv ``csrc/pytorch/cpu/bbox_overlaps_cpu.cpp``)."""

import torch
from torch import Tensor

__all__ = ['bbox_overlaps']


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Fills ``ious`` with intersection over union (mode 0) or over the area of ``bboxes1`` (mode 1).

    ``bboxes1`` (M, 4) and ``bboxes2`` (N, 4) are (x1, y1, x2, y2) in pixels; ``ious`` is (M, N), or (M,) when
    ``aligned``. A side is x2 - x1 + ``offset``. mmcv's CUDA kernel also keeps the divisor >= ``offset``, which only
    malformed boxes notice; here both devices follow the CPU.
    """
    if not aligned:
        bboxes1, bboxes2 = bboxes1[:, None], bboxes2[None]
    top_left = torch.maximum(bboxes1[..., :2], bboxes2[..., :2])
    bottom_right = torch.minimum(bboxes1[..., 2:], bboxes2[..., 2:])
    intersection = (bottom_right - top_left + offset).clamp(min=0).prod(-1)
    base = _area(bboxes1, offset)
    if mode == 0:
        base = base + _area(bboxes2, offset) - intersection
    ious.copy_(intersection / base)


def _area(bboxes: Tensor, offset: int) -> Tensor:
    return (bboxes[..., 2:] - bboxes[..., :2] + offset).prod(-1)
