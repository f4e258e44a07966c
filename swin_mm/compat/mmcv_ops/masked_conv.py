"""The two halves of a convolution at chosen pixels (mmcv ``csrc/common/cuda/masked_conv2d_cuda_kernel.cuh``)."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['masked_col2im_forward', 'masked_im2col_forward']


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fills ``data_col`` (C * kernel_h * kernel_w, P) with the patches of ``features`` (1, C, H, W) at P pixels.

    ``mask_h_idx`` and ``mask_w_idx`` (P,) are rows and columns of the output.
    """
    padded = F.pad(features[0], (pad_w, kernel_w - 1, pad_h, kernel_h - 1))
    rows = mask_h_idx + torch.arange(kernel_h, device=features.device)[:, None, None]
    columns = mask_w_idx + torch.arange(kernel_w, device=features.device)[:, None]
    data_col.copy_(padded[:, rows, columns].flatten(0, 2))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, output: Tensor, height: int, width: int, channels: int
) -> None:
    """Writes the columns of ``col`` (channels, P) to their pixels of ``output`` (1, channels, height, width)."""
    output[0][:, mask_h_idx, mask_w_idx] = col
