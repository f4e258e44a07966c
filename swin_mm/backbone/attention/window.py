"""Attention inside (shifted) windows: its parameters. How it is computed is the matter of `swin_mm.kernels`."""

import torch
from torch import Tensor, nn

from ...checkpoints.convert import relative_position_index
from ...kernels import KERNELS, fastest
from ...kernels.block import Windows


class WindowAttention(nn.Module):
    """Multi-head self-attention inside (shifted) windows, ``(B, H, W, dim)`` to ``(B, H, W, dim)``.

    Swin Transformer (arXiv 2103.14030), section 3.2. ``window`` and ``shift`` are (height, width) in tokens.
    ``kernel`` is a key of ``KERNELS`` or 'auto'. ``cancel_shift`` is for classification alone: no shift along a side of
    the map that one window covers (torchvision's ``shifted_window_attention``); dense models always shift.
    """

    relative_position_index: Tensor

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
            raise ValueError(f'kernel must be one of {["auto", *KERNELS]}, got {kernel!r}')
        if dim % num_heads:
            raise ValueError(f'num_heads must divide the width of its stage, got num_heads={num_heads} width={dim}')
        self.num_heads, self.window, self.shift = num_heads, window, shift
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.attn_drop, self.cancel_shift = attn_drop, cancel_shift
        self.kernel = kernel

        self.make_bias_parameters()
        self.register_buffer('relative_position_index', relative_position_index(window), persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def make_bias_parameters(self) -> None:
        rows = (2 * self.window[0] - 1) * (2 * self.window[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(rows, self.num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_drop(self.proj(self.attend(self.qkv(x))))

    def attend(self, qkv: Tensor) -> Tensor:
        """The attended map ``(B, H, W, dim)`` of queries, keys and values ``(B, H, W, 3 * dim)``."""
        qkv, pad = self.split_heads(qkv)
        dropout = self.attn_drop if self.training else 0.0
        kernel = KERNELS[fastest(qkv, dropout) if self.kernel == 'auto' else self.kernel]
        shift = self.shift_on((qkv.shape[1], qkv.shape[2]))
        return kernel(qkv, self.bias(), pad, self.window, shift, self.scale, dropout)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a kernel is given: ``qkv`` ``(B, H, W, 3, heads, head_dim)``, and ``pad`` or None."""
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))
        # A padding token is zero before the qkv layer, so its q, k, v are the bias of that layer.
        return qkv, None if self.qkv.bias is None else self.qkv.bias.view(qkv.shape[3:])

    def bias(self) -> Tensor:
        """Relative position bias ``(num_heads, N, N)``."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def shift_on(self, size: tuple[int, int]) -> tuple[int, int]:
        """The shift on a map of ``size`` (height, width) tokens."""
        if not self.cancel_shift:
            return self.shift
        dy, dx = (0 if w >= side else step for step, w, side in zip(self.shift, self.window, size, strict=True))
        return dy, dx

    def windows_on(self, size: tuple[int, int]) -> Windows | None:
        """What a kernel of whole blocks must know on a map of ``size`` tokens; None where a kernel was named."""
        if self.kernel != 'auto':
            return None
        return Windows(self.window, self.shift_on(size), self.scale, self.relative_position_bias_table, self.bias)

    def extra_repr(self) -> str:
        return f'window={self.window}, shift={self.shift}, num_heads={self.num_heads}'
