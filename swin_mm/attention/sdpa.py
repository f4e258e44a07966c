"""Window attention through PyTorch's fused ``scaled_dot_product_attention``."""

from contextlib import nullcontext

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .grid import WindowGrid

# cuDNN is first choice on recent GPUs and has no gradient for the bias; flash takes no bias at all.
CUDA_BACKENDS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def window_attention(
    qkv: Tensor,
    bias: Tensor,
    pad: Tensor | None,
    window: tuple[int, int],
    shift: tuple[int, int],
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """The attended map ``(B, H, W, C)``; for the arguments see ``swin_mm.attention``."""
    B, H, W, _, heads, _ = qkv.shape
    grid = WindowGrid((H, W), window, shift)
    windows = grid.split(qkv.flatten(3), None if pad is None else pad.to(qkv.dtype).flatten())
    q, k, v = windows.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, N, head_dim)

    # The fused kernels take four dimensions. Where the bias is the same for every window, windows join the batch;
    # where it depends on the window, they join the heads, so that it is broadcast over the batch, never copied.
    bias = bias.to(q.dtype)
    if grid.shifted:
        dims = (1, 2)
        bias = grid.bias_variants(bias)[grid.variant(bias.device)].flatten(0, 1)
    else:
        dims = (0, 1)
    q, k, v = (x.flatten(*dims) for x in (q, k, v))
    with sdpa_kernel(CUDA_BACKENDS) if q.is_cuda else nullcontext():
        out = F.scaled_dot_product_attention(q, k, v, bias[None], dropout, scale=scale)
    return grid.join(out.view(B, grid.num_windows, heads, *out.shape[-2:]).transpose(2, 3).flatten(3))
