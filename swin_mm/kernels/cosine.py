"""What Swin Transformer V2 does to queries and keys, so that every kernel serves its cosine attention."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .tracing import is_traced

SHORTEST = 1e-12  # shorter vectors count as so long: a key of zero stays zero


def cosine_qkv(qkv: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
    """Queries and keys of length one, queries times ``scale``, and values, of ``qkv`` ``(..., 3, heads, head_dim)``.

    ``bias`` ``(3, heads, head_dim)`` is added first. ``scale`` is ``(heads, 1)``. With the result a kernel's scores are
    scaled cosines if its own ``scale`` is 1. Computed in float32 at least; the result has the dtype of ``qkv``.
    """
    if not is_traced():
        return _CosineQKV.apply(qkv, bias, scale)
    x = _add_exactly(qkv, bias)
    q, k = (F.normalize(x.select(-3, i), dim=-1, eps=SHORTEST) for i in range(2))
    return torch.stack([q * scale, k, x.select(-3, 2)], dim=-3).to(qkv.dtype)


def make_cosine_(qkv: Tensor, scale: Tensor) -> Tensor:
    """`cosine_qkv` without bias and gradient, in place."""
    qk = qkv.narrow(-3, 0, 2)
    qk.mul_(_factors(scale) / _lengths(qk))
    return qkv


class _CosineQKV(torch.autograd.Function):
    """Keeps its result, as the kernel after it does, and lengths; PyTorch's operations would keep three more maps."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
        x = _add_exactly(qkv, bias)
        x = x.clone() if x is qkv else x
        qk = x.narrow(-3, 0, 2)
        lengths = _lengths(qk)
        qk.mul_(_factors(scale) / lengths)
        result = x.to(qkv.dtype)
        ctx.save_for_backward(result, lengths, scale)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        result, lengths, scale = ctx.saved_tensors
        factors = _factors(scale)
        units = result.narrow(-3, 0, 2) / factors
        grad_qkv = grad.to(lengths.dtype, copy=True)
        grad_qk = grad_qkv.narrow(-3, 0, 2)
        along = (grad_qk * units).sum(-1, keepdim=True)  # (..., 2, heads, 1): what only the lengths would change
        grad_scale = along.select(-3, 0).reshape(-1, *scale.shape).sum(0).to(scale.dtype)
        grad_qk.sub_(units.mul_(along)).mul_(factors / lengths)
        needed = ctx.needs_input_grad[1]
        grad_bias = grad_qkv.reshape(-1, *grad.shape[-3:]).sum(0).to(ctx.bias_dtype) if needed else None
        return grad_qkv.to(grad.dtype), grad_bias, grad_scale


def _add_exactly(qkv: Tensor, bias: Tensor | None) -> Tensor:
    x = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
    return x if bias is None else x + bias


def _factors(scale: Tensor) -> Tensor:
    """``(2, heads, 1)``: on queries and on keys."""
    return torch.stack([scale, torch.ones_like(scale)])


def _lengths(qk: Tensor) -> Tensor:
    """Lengths ``(..., 1)`` of vectors ``(..., head_dim)``, in float32 at least."""
    exact = torch.promote_types(qk.dtype, torch.float32)
    return torch.linalg.vector_norm(qk, dim=-1, keepdim=True, dtype=exact).clamp_(min=SHORTEST)
