"""Shifted windows by padding, the slower way that the Swin paper compares its cyclic shift with (section 3.2).

Cut from half a window outside the map on, windows at the borders are cut off. Here they are padded to full ones, so
there are more windows, and what is padded is masked. The cyclic shift of `WindowGrid` puts such windows together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .grid import WindowGrid
from .sdpa import attend


def window_attention(
    qkv: Tensor,
    bias: Tensor,
    pad: Tensor | None,
    window: tuple[int, int],
    shift: tuple[int, int],
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """The attended map ``(B, H, W, C)``; for the arguments see `swin_mm.kernels`."""
    B, H, W, _, heads, _ = qkv.shape
    top, left = (-step % side for step, side in zip(shift, window, strict=True))
    grid = WindowGrid((H + top, W + left), window)
    x = F.pad(qkv.flatten(3), (0, 0, left, 0, top, 0))
    windows = grid.split(x, None if pad is None else pad.to(qkv.dtype).flatten())
    q, k, v = windows.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, N, head_dim)

    bias = bias.to(q.dtype)
    if top or left:  # windows join the heads, each with a bias of its own, as in the kernel 'sdpa'
        hidden = ~_is_there(grid, (top, left), (H, W), qkv.device)
        bias = bias + torch.zeros(hidden.shape, dtype=q.dtype, device=qkv.device).masked_fill(hidden, -torch.inf)
        bias = bias.flatten(0, 1)
    dim = 1 if top or left else 0
    q, k, v = (x.flatten(dim, dim + 1) for x in (q, k, v))
    out = attend(q, k, v, bias[None], dim, dropout, scale)
    out = grid.join(out.view(B, grid.num_windows, heads, *out.shape[-2:]).transpose(2, 3).flatten(3))
    return out[:, top:, left:]


def _is_there(grid: WindowGrid, before: tuple[int, int], size: tuple[int, int], device: torch.device) -> Tensor:
    """Whether a key is of the map or of its padding to whole windows: ``(num_windows, 1, 1, N)`` bool."""
    sides = []
    for count, window, first, length in zip(grid.counts, grid.window, before, size, strict=True):
        place = torch.arange(count * window, device=device) - first
        sides.append((place >= 0) & (place < (length + window - 1) // window * window))
    there = (sides[0][:, None] & sides[1])[None, ..., None]
    whole = WindowGrid((there.shape[1], there.shape[2]), grid.window)
    return whole.split(there)[0, :, None, None, :, 0]
