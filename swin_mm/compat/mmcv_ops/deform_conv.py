"""Deformable convolution v1 and v2, on torchvision's kernels (Dai et al. 2017, Zhu et al. 2019).

Both libraries have the same layouts: ``offset`` (B, groups * taps * 2, Ho, Wo) with (dy, dx) of a tap side by side,
``mask`` (B, groups * taps, Ho, Wo). ``columns`` and ``ones`` are work space of the compiled ops and stay unused.
"""

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from .precision import at_least_float32

__all__ = [
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
]

# Stride, padding and dilation, height first as torchvision takes them, then the two group counts.
V1 = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
V2 = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group', 'deformable_group')


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **conv: int
) -> None:
    """Fills ``output`` (B, Co, Ho, Wo) with the convolution of ``input`` (B, C, H, W) at displaced points."""
    output.copy_(_forward(input, weight, offset, None, None, [conv[k] for k in V1]))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **conv: int,
) -> None:
    """Fills ``grad_input`` (B, C, H, W) and ``grad_offset``, shaped as ``offset``."""
    grads = _backward(grad_output, input, weight, offset, None, [conv[k] for k in V1])
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **conv: int,
) -> None:
    """Adds ``scale`` times the gradient of the weight to ``grad_weight`` (Co, C / group, kH, kW)."""
    # torchvision's backward does not read the weight for this gradient; only its shape counts.
    grads = _backward(grad_output, input, grad_weight, offset, None, [conv[k] for k in V1])
    grad_weight.add_(grads[1], alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **conv: int,
) -> None:
    """Fills ``output`` (B, Co, Ho, Wo) with the convolution at displaced points, each tap scaled by ``mask``."""
    offset, mask = (_first_numbers(tensor, output.shape[2:]) for tensor in (offset, mask))
    output.copy_(_forward(input, weight, offset, mask, bias if with_bias else None, [conv[k] for k in V2]))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **conv: int,
) -> None:
    """Fills the five gradients, each shaped as its tensor; ``grad_bias`` only when ``with_bias``."""
    offset, mask = (_first_numbers(tensor, grad_output.shape[2:]) for tensor in (offset, mask))
    grads = _backward(grad_output, input, weight, offset, mask, [conv[k] for k in V2])
    for tensor, grad in ((grad_offset, grads[2]), (grad_mask, grads[3])):
        tensor.zero_().flatten(1)[:, : grad[0].numel()] = grad.flatten(1)
    grad_input.copy_(grads[0])
    grad_weight.copy_(grads[1])
    if with_bias:
        grad_bias.copy_(grads[4])


def _first_numbers(x: Tensor, size: torch.Size) -> Tensor:
    """Reads ``x`` (B, C, H, W) of an image as if it were of ``size``, as mmcv does: its first numbers in memory.

    mmdet's DyHead convolves a map with the offsets of the next larger one, and its weights were trained so.
    """
    if x.shape[2:].numel() <= size.numel():
        return x  # torchvision refuses a smaller one, beyond the end of which mmcv reads
    return x.flatten(1)[:, : x.shape[1] * size.numel()].unflatten(1, (x.shape[1], *size))


def _forward(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None, geometry: list[int]
) -> Tensor:
    operands = _operands(input, weight, offset, mask, bias)
    return torch.ops.torchvision.deform_conv2d(*operands, *geometry, mask is not None)


def _backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]
) -> list[Tensor]:
    """Gives the gradients of input, weight, offset, mask and bias. Without a mask the fourth means nothing."""
    operands = _operands(input, weight, offset, mask, None)
    grads = torch.ops.torchvision._deform_conv2d_backward(
        at_least_float32(grad_output), *operands, *geometry, mask is not None
    )
    outside = _outside(operands[2], input.shape[2:], weight.shape[2:], geometry)
    return [*grads[:2], grads[2].masked_fill(outside, 0), *grads[3:]]


def _operands(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    # torchvision's operator takes no None: an absent mask or bias is zeros, and the mask is then not read.
    mask = input.new_zeros(len(input), 1) if mask is None else mask
    bias = input.new_zeros(len(weight)) if bias is None else bias
    return tuple(at_least_float32(tensor) for tensor in (input, weight, offset, mask, bias))


def _outside(offset: Tensor, size: torch.Size, kernel: torch.Size, geometry: list[int]) -> Tensor:
    """Gives True where a sampling point is <= -1 or >= the map's size, in the shape of ``offset``.

    mmcv's derivative by the offset is 0 there, and torchvision's is one-sided. This is no corner case: every such layer
    starts with zero offsets, and then the padding taps lie exactly at -1 and at the size.
    """
    batch, _, *out = offset.shape
    stride, padding, dilation, groups = geometry[0:2], geometry[2:4], geometry[4:6], geometry[7]
    displacement = offset.view(batch, groups, kernel[0], kernel[1], 2, *out)
    outside = torch.zeros_like(displacement[:, :, :, :, 0], dtype=torch.bool)
    for axis in (0, 1):
        tap = torch.arange(kernel[axis], device=offset.device) * dilation[axis] - padding[axis]
        start = torch.arange(out[axis], device=offset.device) * stride[axis]
        tap_shape, start_shape = [1] * 4, [1] * 4
        tap_shape[axis], start_shape[2 + axis] = -1, -1
        point = displacement[:, :, :, :, axis] + (tap.view(tap_shape) + start.view(start_shape))
        outside |= (point <= -1) | (point >= size[axis])
    return outside[:, :, :, :, None].expand_as(displacement).reshape(offset.shape)
