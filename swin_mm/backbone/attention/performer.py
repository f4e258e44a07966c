"""Attention of all tokens to each other in linear time, by random features: the Performer."""

import math
from typing import Any

import torch
from torch import Tensor

from .self_attention import SelfAttention

LEAST = 1e-20  # of a sum of features that is divided by


class PerformerAttention(SelfAttention):
    """Self-attention among all tokens of a map by random features, ``(B, H, W, dim)`` to the same.

    FAVOR+ of arXiv 2009.14794: positive features, orthogonal directions. Features of queries and keys have a product
    whose mean is ``exp(q @ k)``, so values are summed once for all queries, in time and memory linear in the tokens.
    ``features``: how many; None for ``head_dim * ln(head_dim)``, as that paper proposes. The error falls with the root
    of their number. ``seed``: of their directions, which all heads and blocks share; they are not in checkpoints.

    For the other arguments see `SelfAttention`. Nothing is padded or shifted. Raises ValueError for what it cannot
    have: a bias and a dropout of pairs, which are never computed, and a named kernel other than 'reference'.
    """

    projection: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: tuple[int, int],
        *args: Any,
        features: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(dim, num_heads, window, *args, **kwargs)
        if self.relative_position_bias_table is not None:
            raise ValueError("position must be 'none' or 'absolute' with attention='performer', which has no pairs")
        if self.attn_drop:
            raise ValueError(f"attn_drop_rate must be 0 with attention='performer', got {self.attn_drop}")
        self.require_no_kernel('performer')
        head_dim = dim // num_heads
        features = max(1, math.ceil(head_dim * math.log(head_dim))) if features is None else features
        if features < 1:
            raise ValueError(f"features must be at least 1 with attention='performer', got {features}")
        self.register_buffer('projection', orthogonal_directions(features, head_dim, seed), persistent=False)

    def attend(self, qkv: Tensor) -> Tensor:
        (H, W), dtype = qkv.shape[1:3], qkv.dtype
        exact = torch.promote_types(dtype, torch.float32)
        with torch.autocast(qkv.device.type, enabled=False):  # exponentials do not fit into 16 bits
            q, k, v = qkv.to(exact).unflatten(-1, (3, self.num_heads, -1)).flatten(1, 2).permute(2, 0, 3, 1, 4)
            # What is subtracted before exp() is common to all terms of a quotient: of a query, and of a head's keys.
            q, k = (self._exponents(x * self.scale**0.5) for x in (q, k))  # (B, heads, N, features)
            q = (q - q.amax(dim=-1, keepdim=True).detach()).exp()
            k = (k - k.amax(dim=(-2, -1), keepdim=True).detach()).exp()
            sums = q @ k.sum(dim=-2)[..., None]
            out = q @ (k.transpose(-2, -1) @ v) / sums.clamp_min(LEAST)
        return out.transpose(1, 2).flatten(2).unflatten(1, (H, W)).to(dtype)

    def _exponents(self, x: Tensor) -> Tensor:
        """Logarithms of the features ``(..., features)`` of ``x`` ``(..., head_dim)``, up to a constant."""
        return x @ self.projection.to(x.dtype).T - x.square().sum(dim=-1, keepdim=True) / 2


def orthogonal_directions(number: int, dim: int, seed: int) -> Tensor:
    """Draws ``(number, dim)`` normal vectors in groups of ``dim`` orthogonal ones (arXiv 2009.14794, section 2.4)."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randn(math.ceil(number / dim), dim, dim, generator=generator, dtype=torch.float64, device='cpu')
    lengths = torch.randn(number, dim, generator=generator, dtype=torch.float64, device='cpu').norm(dim=1)
    # The signs of R make the rotation uniform, whichever signs the decomposition chooses.
    rotations, triangles = torch.linalg.qr(groups)
    rotations = rotations * triangles.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    return (rotations.transpose(-2, -1).flatten(0, 1)[:number] * lengths[:, None]).float()
