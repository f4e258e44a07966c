"""Window attention through PyTorch's fused ``scaled_dot_product_attention``."""

from contextlib import nullcontext
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .grid import WindowGrid

# By type of device; a device that is not named uses all. cuDNN, PyTorch's first choice on recent GPUs, has no gradient
# for the bias. Flash takes no bias at all.
BACKENDS = {'cuda': [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]}
LIMIT = 65535  # the largest batch and number of heads: the efficient kernel puts them on axes of a CUDA grid
ALIGNED = 8  # rows of the bias start at multiples of so many numbers, or the efficient kernel copies it in every call


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
    grid = WindowGrid((H, W), window, shift)
    windows = grid.split(qkv.flatten(3), None if pad is None else pad.to(qkv.dtype).flatten())
    q, k, v = windows.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, N, head_dim)

    # The fused kernels take four dimensions. Where the bias is the same for every window, windows join the batch;
    # where it depends on the window, they join the heads, so that it is broadcast over the batch, never copied.
    dim = 1 if grid.shifted else 0
    q, k, v = (x.flatten(dim, dim + 1) for x in (q, k, v))
    out = attend(q, k, v, _bias_of(grid, bias.to(q.dtype)), dim, dropout, scale)
    return grid.join(out.view(B, grid.num_windows, heads, *out.shape[-2:]).transpose(2, 3).flatten(3))


def _bias_of(grid: WindowGrid, bias: Tensor) -> Tensor:
    """Makes the bias ``(1, heads, N, N)``, with a shift ``(1, windows * heads, N, N)``, mask included."""
    N = bias.shape[-1]
    bias = F.pad(grid.bias_variants(bias) if grid.shifted else bias, (0, -N % ALIGNED)).contiguous()
    if grid.shifted:
        bias = bias[grid.variant(bias.device)].flatten(0, 1)
    return bias[None, ..., :N]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dim: int, dropout: float, scale: float) -> Tensor:
    """Computes attended values ``(batch, heads, N, head_dim)`` in parts of at most ``LIMIT`` along ``dim``."""
    if q.shape[dim] > LIMIT:
        biases = bias.split(LIMIT, dim) if dim else repeat(bias)
        parts = zip(q.split(LIMIT, dim), k.split(LIMIT, dim), v.split(LIMIT, dim), biases, strict=False)
        return torch.cat([attend(*part, dim, dropout, scale) for part in parts], dim)
    backends = BACKENDS.get(q.device.type)
    with sdpa_kernel(backends) if backends else nullcontext():
        return F.scaled_dot_product_attention(q, k, v, bias, dropout, scale=scale)
