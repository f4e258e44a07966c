"""Attention of each token to the window around it, with which the Swin paper compares its shifted windows."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .self_attention import SelfAttention


class SlidingAttention(SelfAttention):
    """Self-attention of each token to the tokens of the window centred on it, ``(B, H, W, dim)`` to the same.

    The sliding window of arXiv 2103.14030, section 4.4; for the arguments see `SelfAttention`. The parameters are those
    of window attention. Of the table only the middle is read, since offsets reach half a window. Nothing is shifted.

    Padding tokens beyond the border are attended to, as in windows: their q, k and v are the bias of the qkv layer.
    Raises ValueError for an even window, which has no middle, a named kernel other than 'reference', and in a trace.
    """

    def __init__(self, dim: int, num_heads: int, window: tuple[int, int], *args: Any, **kwargs: Any):
        super().__init__(dim, num_heads, window, *args, **kwargs)
        if window[0] % 2 == 0 or window[1] % 2 == 0:
            raise ValueError(f"window_size must be odd with attention='sliding', got {window}")
        self.require_no_kernel('sliding')

    def attend(self, qkv: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            rule = "attention='sliding' cuts the example's map into rows of tiles, and a trace would keep them"
            raise ValueError(f'{rule}: use torch.export for one size of image')
        # A tile of the map, as large as a window, takes all keys that any of its tokens sees. So there are a few dense
        # products, of which less than a third is needed, and not a small one for each token. A row of tiles at a time
        # bounds the memory for copies of keys and for scores.
        (_, H, W, _), (h, w) = qkv.shape, self.window
        q, k, v = self._padded(qkv).unbind(3)  # (B, rows, columns, heads, head_dim)
        q = q[:, h // 2 :, w // 2 :]
        bias, rows = self.bias(), []
        for y in range(0, H, h):
            keys, values = (_tiles(x[:, y : y + 2 * h - 1], 2 * w - 1, w) for x in (k, v))
            rows.append(self._attend_row(_tiles(q[:, y : y + h], w, w), keys, values, bias))
        return torch.cat(rows, dim=1)[:, :H, :W].flatten(3)

    def bias(self) -> Tensor:
        """Bias ``(num_heads, tokens of a tile, keys)``; minus infinity where a key is outside the token's window."""
        h, w = self.window
        device = self.qkv.weight.device
        dy, dx = (  # from a key to a token
            torch.arange(side, device=device)[:, None] - torch.arange(2 * side - 1, device=device) + side // 2
            for side in (h, w)
        )
        dy, dx = dy[:, None, :, None], dx[None, :, None, :]
        inside = ((dy.abs() <= h // 2) & (dx.abs() <= w // 2)).flatten(2).flatten(0, 1)
        if self.relative_position_bias_table is None:
            bias = self.qkv.weight.new_zeros(())
        else:
            index = (dy.clamp(1 - h, h - 1) + h - 1) * (2 * w - 1) + dx.clamp(1 - w, w - 1) + w - 1
            bias = self.relative_position_bias_table[index.flatten(2).flatten(0, 1)].permute(2, 0, 1)
        return torch.where(inside, bias, -torch.inf).expand(self.num_heads, -1, -1)

    def _padded(self, qkv: Tensor) -> Tensor:
        """The map ``(B, rows, columns, 3, heads, head_dim)`` of whole tiles, and half a window more on each side."""
        (B, H, W, _), (h, w) = qkv.shape, self.window
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))
        if (pad := self.padding_token()) is None:
            pad = torch.zeros_like(qkv[0, 0, 0])
        padded = pad.to(qkv.dtype).expand(B, H + -H % h + h - 1, W + -W % w + w - 1, *pad.shape).clone()
        padded[:, h // 2 : h // 2 + H, w // 2 : w // 2 + W] = qkv
        return padded

    def _attend_row(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Rows ``(B, h, columns, heads, head_dim)`` of the map, of tiles ``(B, tiles, heads, tokens, head_dim)``."""
        scores = (q * self.scale) @ k.transpose(-2, -1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) + bias
        out = F.dropout(scores.softmax(dim=-1), self.dropout).to(v.dtype) @ v
        return out.unflatten(3, self.window).permute(0, 3, 1, 4, 2, 5).flatten(2, 3)


def _tiles(x: Tensor, width: int, step: int) -> Tensor:
    """Cuts rows ``(B, rows, columns, heads, head_dim)`` into tiles ``(B, tiles, heads, rows * width, head_dim)``."""
    return x.unfold(2, width, step).permute(0, 2, 3, 1, 5, 4).flatten(3, 4)
