"""Content-aware reassembly of features (CARAFE, Wang et al. 2019, equation 2; mmcv ``carafe_naive_cuda_kernel.cuh``).

mmcv compiles a naive and a tiled form, which compute the same; here both are one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import at_least_float32

__all__ = ['carafe_backward', 'carafe_forward', 'carafe_naive_backward', 'carafe_naive_forward']


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Fills ``output`` (B, C, H * scale, W * scale) with sums over neighbourhoods of ``features`` (B, C, H, W).

    ``masks`` (B, group_size * kernel_size^2, H * scale, W * scale) are the weights at each pixel of the output. Its
    neighbourhood lies around the pixel of the input that it comes from. Beyond the border the input counts as 0.
    """
    features, masks = at_least_float32(features), at_least_float32(masks)
    output.copy_(_reassemble(features, masks, kernel_size, group_size, scale_factor))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fills ``grad_input`` and ``grad_masks``, shaped as ``features`` and ``masks``."""
    inputs = [at_least_float32(tensor.detach()).requires_grad_() for tensor in (features, masks)]
    with torch.enable_grad():
        output = _reassemble(inputs[0], inputs[1], kernel_size, group_size, scale_factor)
    grads = torch.autograd.grad(output, inputs, at_least_float32(grad_output))
    grad_input.copy_(grads[0])
    grad_masks.copy_(grads[1])


def carafe_forward(
    features: Tensor, masks: Tensor, rfeatures: Tensor, routput: Tensor, rmasks: Tensor, output: Tensor, **size: int
) -> None:
    """Fills ``output`` as the naive form does, and ``rfeatures``, the only features that mmcv hands to the backward."""
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, **size)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    **size: int,
) -> None:
    """Fills ``grad_input`` and ``grad_masks`` as the naive form does; the ``rgrad`` tensors stay unused."""
    carafe_naive_backward(grad_output, rfeatures, masks, grad_input, grad_masks, **size)


def _reassemble(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    batch, channels, height, width = features.shape
    # Pixels of the output as (row, row within the cell, column, column within the cell): each cell shares one input.
    weights = masks.reshape(batch, group_size, 1, kernel_size**2, height, scale_factor, width, scale_factor)
    padded = F.pad(features, [kernel_size // 2] * 4).unflatten(1, (group_size, -1))
    output = features.new_zeros(())
    for tap in range(kernel_size**2):
        row, column = divmod(tap, kernel_size)
        shifted = padded[..., row : row + height, column : column + width]
        output = output + shifted[..., :, None, :, None] * weights[:, :, :, tap]
    return output.reshape(batch, channels, height * scale_factor, width * scale_factor)
