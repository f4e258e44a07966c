"""Window attention on a token map: its parameters, and the choice of kernel.

A kernel is a function ``window_attention(qkv, bias, pad, window, shift, scale, dropout) -> map``; all of them agree
with ``reference`` in value and gradient. The map is ``(B, H, W, heads * head_dim)``, and

* ``qkv`` ``(B, H, W, 3, heads, head_dim)``: queries, keys and values of the tokens that exist;
* ``bias`` ``(heads, N, N)``: relative position bias, added to the scores of the N tokens in a window;
* ``pad`` ``(3, heads, head_dim)``: query, key and value of a padding token, None for zeros;
* ``window``, ``shift``: (height, width) in tokens; ``scale``: factor on the scores; ``dropout``: on the weights.
"""

import logging
from functools import cache

import torch
from torch import Tensor, nn

from ..recompute import linear_after
from . import cpu, reference, sdpa, triton
from .grid import WindowGrid

__all__ = ['KERNELS', 'WindowAttention', 'WindowGrid', 'relative_position_index']

_IDENTITY = nn.Identity()

KERNELS = {
    'reference': reference.window_attention,
    'sdpa': sdpa.window_attention,
    'cpu': cpu.window_attention,
    'triton': triton.window_attention,
}


def relative_position_index(window: tuple[int, int]) -> Tensor:
    """``(N, N)`` int64: the row of the bias table that holds the bias between two tokens of a window.

    The table has a row for each offset (dy, dx), counted from the most negative one, dx running fastest
    (official ``WindowAttention.__init__``).
    """
    h, w = window
    places = torch.cartesian_prod(torch.arange(h), torch.arange(w))  # (N, 2)
    dy, dx = (places[:, None] - places[None]).unbind(-1)
    return (dy + h - 1) * (2 * w - 1) + dx + w - 1


class WindowAttention(nn.Module):
    """Multi-head self-attention inside (shifted) windows, ``(B, H, W, dim)`` to ``(B, H, W, dim)``.

    Swin Transformer (arXiv 2103.14030), section 3.2. ``window`` and ``shift`` are (height, width) in tokens.
    ``kernel`` is a key of ``KERNELS`` or 'auto'. ``cancel_shift`` is for classification alone: no shift along a side of
    the map that one window covers (torchvision's ``shifted_window_attention``); dense models always shift.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: tuple[int, int],
        shift: tuple[int, int] = (0, 0),
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        kernel: str = 'auto',
        cancel_shift: bool = False,
    ):
        super().__init__()
        if kernel != 'auto' and kernel not in KERNELS:
            raise ValueError(f'attention must be one of {["auto", *KERNELS]}, got {kernel!r}')
        if dim % num_heads:
            raise ValueError(f'num_heads must divide the width of its stage, got num_heads={num_heads} width={dim}')
        self.num_heads, self.window, self.shift = num_heads, window, shift
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.attn_drop, self.cancel_shift = attn_drop, cancel_shift
        self.kernel_name = kernel

        rows = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(rows, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer('relative_position_index', relative_position_index(window), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def bias(self) -> Tensor:
        """Relative position bias ``(num_heads, N, N)``."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """The attended map; with ``norm`` that of ``norm(x)``."""
        qkv = self.qkv(x) if norm is None else linear_after(norm, self.qkv, x)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))
        # A padding token is zero before the qkv layer, so its q, k, v are that layer's bias.
        pad = None if self.qkv.bias is None else self.qkv.bias.view(qkv.shape[3:])
        dropout = self.attn_drop if self.training else 0.0
        kernel = self.kernel_name if self.kernel_name != 'auto' else _fastest(qkv, dropout)
        x = KERNELS[kernel](qkv, self.bias(), pad, self.window, self.shift_on(x.shape[1:3]), self.scale, dropout)
        return self.proj_drop(linear_after(_IDENTITY, self.proj, x))

    def shift_on(self, size: tuple[int, int]) -> tuple[int, int]:
        """The shift on a map of ``size`` (height, width) tokens."""
        if not self.cancel_shift:
            return self.shift
        return tuple(0 if w >= side else step for step, w, side in zip(self.shift, self.window, size, strict=True))

    def extra_repr(self) -> str:
        return f'window={self.window}, shift={self.shift}, num_heads={self.num_heads}'


def _fastest(qkv: Tensor, dropout: float) -> str:
    """The kernel that 'auto' takes. 'triton' has never run on a GPU, so it is taken by name only."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    kernel = 'cpu' if qkv.device.type == 'cpu' and not dropout and not traced else 'sdpa'
    if not traced:
        _say(kernel)
    return kernel


@cache
def _say(kernel: str) -> None:
    logging.getLogger('swin_mm').info("attention='auto' takes %r", kernel)
