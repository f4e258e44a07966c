"""Window attention in plain PyTorch: any device, any dtype, differentiable. The oracle for every other kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .grid import WindowGrid


def window_attention(
    qkv: Tensor,
    bias: Tensor,
    pad: Tensor | None,
    window: tuple[int, int],
    shift: tuple[int, int],
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """The attended map ``(B, H, W, C)``; for the arguments see `swin_mm.kernels`.

    Scores and softmax are in float32 at least, whatever the dtype of ``qkv``.
    """
    _, H, W, _, heads, _ = qkv.shape
    grid = WindowGrid((H, W), window, shift)
    windows = grid.split(qkv.flatten(3), None if pad is None else pad.to(qkv.dtype).flatten())
    q, k, v = windows.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, N, head_dim)

    scores = (q * scale) @ k.transpose(-2, -1)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    bias = bias.to(scores.dtype)
    scores = scores + (grid.bias_variants(bias)[grid.variant(bias.device)] if grid.shifted else bias)
    weights = F.dropout(scores.softmax(dim=-1), dropout)

    out = weights.to(v.dtype) @ v  # (B, windows, heads, N, head_dim)
    return grid.join(out.transpose(2, 3).flatten(3))
