"""Attention inside (shifted) windows. How it is computed is the matter of `swin_mm.kernels`."""

from typing import Any

from torch import Tensor

from ...checkpoints.convert import relative_position_index
from ...kernels import KERNELS, Map, fastest
from ...kernels.block import Windows
from .self_attention import SelfAttention


class WindowAttention(SelfAttention):
    """Multi-head self-attention inside (shifted) windows, ``(B, H, W, dim)`` to ``(B, H, W, dim)``.

    Swin Transformer (arXiv 2103.14030), section 3.2; for the arguments see `SelfAttention`. ``cancel_shift`` is for
    classification alone: no shift along a side of the map that one window covers (torchvision's
    ``shifted_window_attention``); dense models always shift.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, num_heads: int, window: tuple[int, int], *args: Any, **kwargs: Any):
        super().__init__(dim, num_heads, window, *args, **kwargs)
        self.register_buffer('relative_position_index', relative_position_index(window), persistent=False)

    def attend(self, qkv: Tensor) -> Tensor:
        qkv, pad = self.split_heads(qkv)
        given = Map(qkv, self.bias(), pad, self.window, self.shift_on((qkv.shape[1], qkv.shape[2])), self.scale)
        kernel = KERNELS[fastest(given, self.dropout) if self.kernel == 'auto' else self.kernel]
        return kernel(*given, self.dropout)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a kernel is given: ``qkv`` ``(B, H, W, 3, heads, head_dim)``, and ``pad`` or None."""
        return qkv.unflatten(-1, (3, self.num_heads, -1)), self.padding_token()

    def bias(self) -> Tensor:
        """Relative position bias ``(num_heads, N, N)``; zeros without a table."""
        if self.relative_position_bias_table is None:
            return self.no_bias(len(self.relative_position_index))
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def shift_on(self, size: tuple[int, int]) -> tuple[int, int]:
        """The shift on a map of ``size`` (height, width) tokens."""
        if not self.cancel_shift:
            return self.shift
        dy, dx = (0 if w >= side else step for step, w, side in zip(self.shift, self.window, size, strict=True))
        return dy, dx

    def windows_on(self, size: tuple[int, int]) -> Windows | None:
        """What a kernel of whole blocks must know on a map of ``size`` tokens; None where none may be taken.

        A kernel was named, or there is no table, by whose content such a kernel keeps the bias.
        """
        if self.kernel != 'auto' or self.relative_position_bias_table is None:
            return None
        sources = (self.relative_position_bias_table,)
        return Windows(self.window, self.shift_on(size), self.scale, sources, self.bias, self.qkv.bias)

    def extra_repr(self) -> str:
        return f'window={self.window}, shift={self.shift}, num_heads={self.num_heads}'
