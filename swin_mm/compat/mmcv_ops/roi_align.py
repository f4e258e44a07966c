"""RoI align with average pooling, on torchvision's kernels (mmcv ``csrc/pytorch/cpu/roi_align.cpp``).

On CUDA the backward is not deterministic, as in mmcv. Unlike mmcv's kernel, torchvision's raises an error for that
under ``torch.use_deterministic_algorithms(True)``.
"""

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from .precision import at_least_float32

__all__ = ['roi_align_backward', 'roi_align_forward']


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills ``output`` (K, C, ``aligned_height``, ``aligned_width``) with the means over the bins of every RoI.

    ``input`` (B, C, H, W), ``rois`` (K, 5) as (image, x1, y1, x2, y2) in pixels of the image. ``sampling_ratio`` 0
    takes one sample per pixel. Raises NotImplementedError for ``pool_mode`` 0 (max).
    """
    _require_average(pool_mode)
    # A RoI with x2 < x1 gives zeros when aligned; mmcv raises for it on the CPU and gives zeros on CUDA.
    pooled = torch.ops.torchvision.roi_align(
        at_least_float32(input),
        at_least_float32(rois),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills ``grad_input`` (B, C, H, W) from ``grad_output`` (K, C, ``aligned_height``, ``aligned_width``)."""
    _require_average(pool_mode)
    batch, channels, height, width = grad_input.shape
    grad = torch.ops.torchvision._roi_align_backward(
        at_least_float32(grad_output),
        at_least_float32(rois),
        spatial_scale,
        aligned_height,
        aligned_width,
        batch,
        channels,
        height,
        width,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(grad)


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "roi_align: pool_mode must be 'avg', got 'max'; for max pooling build mmcv from source for this PyTorch"
        )
