"""Cosine attention inside (shifted) windows with a continuous position bias: its parameters."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.block import Windows
from ...kernels.cosine import cosine_qkv
from .window import WindowAttention

HIDDEN = 512  # width of the network that makes the position bias
WITHOUT: dict[str, Any] = dict(qkv_bias=False, qk_scale=1.0, relative_bias=False)


class WindowAttentionV2(WindowAttention):
    """Attention of Swin Transformer V2 (arXiv 2111.09883, sections 3.3 and 3.4), ``(B, H, W, dim)`` to the same.

    Scores are cosines of queries and keys times a scale that each head learns. A small network makes the position bias
    from logarithms of the offsets, so one file of weights serves any window. ``pretrained_window`` is the window of
    these weights, (height, width) in tokens: offsets count in its units; 0 means ``window``. The other arguments are
    those of `WindowAttention`.

    Tokens are padded before the qkv layer, so a padding token has ``q_bias`` as query, no key (all its cosines are 0)
    and ``v_bias`` as value.
    """

    relative_coords_table: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: tuple[int, int],
        shift: tuple[int, int] = (0, 0),
        qkv_bias: bool = True,
        pretrained_window: tuple[int, int] = (0, 0),
        **shared: Any,
    ):
        # Keys have no bias, so the layer has none; the scale is in the queries, and the position bias has no table.
        super().__init__(dim, num_heads, window, shift, **{**shared, **WITHOUT})
        unit = [trained or side for trained, side in zip(pretrained_window, window, strict=True)]
        self.register_buffer('relative_coords_table', relative_coords_table(window, unit), persistent=False)
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, num_heads, bias=False)
        )

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor | None]:
        qkv, bias, scale = qkv.unflatten(-1, (3, self.num_heads, -1)), self.qkv_bias(), self.cosine_scale()
        if bias is None:
            return cosine_qkv(qkv, None, scale), None
        bias = bias.view(qkv.shape[3:])
        # A padding token is zero before the qkv layer: its key is zero and has no length, and nobody reads its query.
        return cosine_qkv(qkv, bias, scale), bias

    def qkv_bias(self) -> Tensor | None:
        """What is added to queries, keys and values, ``(3 * dim,)``; None for nothing."""
        if self.q_bias is None or self.v_bias is None:
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def cosine_scale(self) -> Tensor:
        """The factor on the cosines of each head, ``(num_heads, 1)``, at most 100."""
        return self.logit_scale.clamp(max=math.log(100)).exp()[..., 0]

    def bias(self) -> Tensor:
        """Relative position bias ``(num_heads, N, N)``, between 0 and 16."""
        table = 16 * self.cpb_mlp(self.relative_coords_table).flatten(0, 2).sigmoid()
        return table[self.relative_position_index].permute(2, 0, 1)

    def windows_on(self, size: tuple[int, int]) -> Windows | None:
        if self.kernel != 'auto':
            return None
        sources = (*self.cpb_mlp.parameters(), self.relative_coords_table)
        bias, scale = self.qkv_bias(), self.cosine_scale()
        return Windows(self.window, self.shift_on(size), self.scale, sources, self.bias, bias, scale)


def relative_coords_table(window: Sequence[int], unit: Sequence[int]) -> Tensor:
    """``(1, 2 * h - 1, 2 * w - 1, 2)``: the offset (dy, dx) of two tokens in a window (h, w), on a logarithmic scale.

    The largest offset in a window ``unit`` is 1; it is mapped to log2(9) / 3 (equation 4 of the paper).
    """
    offsets = [
        torch.arange(1 - side, side, dtype=torch.float32) / max(1, longest - 1)
        for side, longest in zip(window, unit, strict=True)
    ]
    table = 8 * torch.stack(torch.meshgrid(*offsets, indexing='ij'), dim=-1)[None]
    return table.sign() * torch.log2(table.abs() + 1) / 3
