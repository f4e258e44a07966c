"""Multi-scale deformable attention on ``grid_sample`` (Deformable DETR, Zhu et al. 2021, equation 3).

On the CPU mmcv calls a Python form of its own instead, which holds the samples of all levels at once. The output is a
sum over the levels, so here only one level is held at a time, forward and backward. The compiled form is in mmcv
``csrc/common/cuda/ms_deform_attn_cuda_kernel.cuh``.
"""

from collections.abc import Iterator
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import at_least_float32

__all__ = ['ms_deform_attn_backward', 'ms_deform_attn_forward']


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """Gives the attended values, (B, Q, heads * head_dim).

    ``value`` (B, keys, heads, head_dim) holds the levels one after the other, ``spatial_shapes`` (levels, 2) their
    (height, width) and ``level_start_index`` (levels,) their first keys. ``sampling_loc``
    (B, Q, heads, levels, points, 2) is (x, y) with 0 and 1 at the edges of a level, ``attn_weight`` is
    (B, Q, heads, levels, points). ``im2col_step`` matters to the compiled op only and stays unused.
    """
    parts = (
        _attend(
            at_least_float32(value[:, keys]),
            at_least_float32(sampling_loc[:, :, :, level]),
            at_least_float32(attn_weight[:, :, :, level]),
            size,
        )
        for level, keys, size in _levels(spatial_shapes, level_start_index)
    )
    return reduce(torch.add, parts).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fills ``grad_value``, ``grad_sampling_loc`` and ``grad_attn_weight``, each shaped as its tensor."""
    grad_output = at_least_float32(grad_output)
    for level, keys, size in _levels(spatial_shapes, level_start_index):
        this_level = (slice(None), slice(None), slice(None), level)
        places = (slice(None), keys), this_level, this_level
        tensors = (value, sampling_loc, attn_weight)
        inputs = [
            at_least_float32(tensor[place].detach()).requires_grad_()
            for tensor, place in zip(tensors, places, strict=True)
        ]
        with torch.enable_grad():
            output = _attend(inputs[0], inputs[1], inputs[2], size)
        grads = torch.autograd.grad(output, inputs, grad_output)
        filled = (grad_value, grad_sampling_loc, grad_attn_weight)
        for tensor, place, grad in zip(filled, places, grads, strict=True):
            tensor[place] = grad.to(tensor.dtype)


def _levels(spatial_shapes: Tensor, level_start_index: Tensor) -> Iterator[tuple[int, slice, tuple[int, int]]]:
    """Yields number, keys and (height, width) of each level."""
    starts = level_start_index.tolist()
    for level, (height, width) in enumerate(spatial_shapes.tolist()):
        yield level, slice(starts[level], starts[level] + height * width), (height, width)


def _attend(value: Tensor, loc: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Gives what one level adds to the output, (B, Q, heads * head_dim).

    ``value`` (B, height * width, heads, head_dim), ``loc`` (B, Q, heads, points, 2), ``weight`` (B, Q, heads, points).
    """
    batch, _, heads, head_dim = value.shape
    maps = value.permute(0, 2, 3, 1).reshape(batch * heads, head_dim, *size)
    grid = 2 * loc.transpose(1, 2).flatten(0, 1) - 1
    samples = F.grid_sample(maps, grid, align_corners=False)
    weighted = samples * weight.transpose(1, 2).flatten(0, 1)[:, None]
    return weighted.sum(-1).view(batch, heads * head_dim, -1).transpose(1, 2)
