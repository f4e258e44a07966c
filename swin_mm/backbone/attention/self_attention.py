"""What all kinds of self-attention share: their parameters, and the linear layers before and after."""

import torch
from torch import Tensor, nn

from ...kernels import KERNELS


class SelfAttention(nn.Module):
    """Multi-head self-attention on a map, ``(B, H, W, dim)`` to ``(B, H, W, dim)``; a kind says how in `attend`.

    A block gives every kind the same arguments, and each uses what it has a use for. ``window`` and ``shift`` are
    (height, width) in tokens. ``qk_scale`` is the factor on the scores, None for ``head_dim ** -0.5``.
    ``relative_bias``: add a learnt relative position bias to the scores (arXiv 2103.14030, equation 4). Its table has a
    row for each offset of two tokens in ``window``. ``kernel`` is a key of ``KERNELS`` or 'auto'.
    """

    relative_position_bias_table: nn.Parameter | None

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
        relative_bias: bool = True,
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

        table = None
        if relative_bias:
            table = nn.Parameter(torch.empty((2 * window[0] - 1) * (2 * window[1] - 1), num_heads))
            nn.init.trunc_normal_(table, std=0.02)
        self.register_parameter('relative_position_bias_table', table)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_drop(self.proj(self.attend(self.qkv(x))))

    def attend(self, qkv: Tensor) -> Tensor:
        """The attended map ``(B, H, W, dim)`` of queries, keys and values ``(B, H, W, 3 * dim)``."""
        raise NotImplementedError

    @property
    def dropout(self) -> float:
        """Probability to drop a weight now."""
        return self.attn_drop if self.training else 0.0

    def padding_token(self) -> Tensor | None:
        """Query, key and value ``(3, heads, head_dim)`` of a padding token; None for zeros.

        Such a token is zero before the qkv layer, so these are the bias of that layer.
        """
        return None if self.qkv.bias is None else self.qkv.bias.view(3, self.num_heads, -1)

    def require_no_kernel(self, kind: str) -> None:
        """Raises ValueError if a kernel of windows was named for ``kind``, which is computed in one way."""
        if self.kernel not in ('auto', 'reference'):
            raise ValueError(f"kernel must be 'auto' with attention={kind!r}, got {self.kernel!r}")

    def no_bias(self, tokens: int) -> Tensor:
        """A bias ``(num_heads, tokens, tokens)`` of zeros, which takes no memory."""
        return self.qkv.weight.new_zeros(()).expand(self.num_heads, tokens, tokens)
