"""Training with less memory: linear layers that keep the input of the cheap layer before them, a norm or GELU.

PyTorch keeps the output of that layer as well. Here the backward pass computes it again, which costs a few percent of
the matrix products that need it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .block import NOTHING, BlockLayers, MergingLayers

TOKENS = 2048  # at a time after GELU on the CPU, so that the widest layer of a block stays in the cache


def lean_block(layers: BlockLayers, x: Tensor) -> Tensor:
    """Computes a block on the map ``x`` ``(B, H, W, C)`` with a gradient, keeping no output of a norm or GELU."""
    a = layers
    y = a.attend(linear_after(a.before_attention, a.qkv, x))
    y = a.after_attention(a.proj_drop(linear_after(NOTHING, a.proj, y)))
    x = _add_branch(x, y, a.draw_factor)
    y = linear_after(a.before_mlp, a.fc1, x)
    if a.mlp_drop.training and a.mlp_drop.p:
        y = a.mlp_drop(a.fc2(a.mlp_drop(a.act(y))))
    else:
        y = linear_after(a.act, a.fc2, y)
    return _add_branch(x, a.after_mlp(y), a.draw_factor)


def lean_merging(layers: MergingLayers, x: Tensor) -> Tensor:
    """Computes patch merging on the map ``x`` ``(B, H, W, C)`` of even sides with a gradient."""
    return layers.after(linear_after(layers.before, layers.reduction, layers.gather(x)))


def _add_branch(x: Tensor, y: Tensor, draw_factor: Callable[[Tensor], Tensor | None]) -> Tensor:
    """Adds ``y``, times the factor of drop path, to ``x``, without the product in memory."""
    factor = draw_factor(y)
    return x + y if factor is None else torch.addcmul(x, y, factor)


def linear_after(before: nn.Module, linear: nn.Linear, x: Tensor) -> Tensor:
    """``linear(before(x))``; in training, and where both are plain layers, without keeping ``before(x)``."""
    plain = type(before) in (nn.LayerNorm, nn.GELU, nn.Identity) and type(linear) is nn.Linear
    if not plain or not torch.is_grad_enabled():
        return linear(before(x))
    # By name, since FSDP keeps plain tensors in place of parameters during forward and backward passes.
    parameters = (before.weight, before.bias) if isinstance(before, nn.LayerNorm) else ()
    return _LinearAfter.apply(before, x, linear.weight, linear.bias, *parameters)


class _LinearAfter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, before: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight, *parameters)
        ctx.before, ctx.device = before, x.device.type
        ctx.autocast = torch.is_autocast_enabled(ctx.device), torch.get_autocast_dtype(ctx.device)
        tokens = x.flatten(0, -2)
        step = _tokens_at_once(before, tokens)
        parts = [_linear(_compute(before, part, parameters), weight, bias) for part in tokens.split(step)]
        return _join_rows(parts).unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = ctx.saved_tensors
        _, x_needed, weight_needed, bias_needed, *needed = ctx.needs_input_grad
        tokens, grad = x.flatten(0, -2), grad.flatten(0, -2)
        step = _tokens_at_once(ctx.before, tokens)
        grads_x: list[Tensor] = []
        grad_weight: Tensor | None = None
        grad_parameters: list[Tensor | None] = [None] * len(parameters)
        enabled, dtype = ctx.autocast
        with torch.autocast(ctx.device, dtype, enabled=enabled):
            for part, rows in zip(tokens.split(step), grad.split(step), strict=True):
                y, backward = _run_again(ctx.before, part, parameters, needed)
                if weight_needed:
                    grad_weight = _add_weight_gradient(grad_weight, rows, y, weight)
                if x_needed or any(needed):
                    rows = _linear(rows, weight.t()).to(y.dtype)
                    rows, grad_parameters = backward(rows)
                    grads_x.append(rows)
        grad_bias = grad.sum(0).to(weight.dtype) if bias_needed else None
        grad_x = _join_rows(grads_x).view_as(x) if x_needed else None
        return None, grad_x, grad_weight, grad_bias, *grad_parameters


def _join_rows(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _tokens_at_once(before: nn.Module, tokens: Tensor) -> int:
    """GELU's tokens are four times as wide as others, so it takes a few at a time."""
    return TOKENS if isinstance(before, nn.GELU) and tokens.device.type == 'cpu' else max(1, len(tokens))


def _compute(before: nn.Module, x: Tensor, parameters: Sequence[Tensor | None]) -> Tensor:
    """``before(x)``, with ``parameters`` in place of those that the module holds now."""
    if isinstance(before, nn.LayerNorm):
        weight, bias = parameters
        return F.layer_norm(x, before.normalized_shape, weight, bias, before.eps)
    return before(x)


def _run_again(
    before: nn.Module, x: Tensor, parameters: Sequence[Tensor | None], needed: Sequence[bool]
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, list[Tensor | None]]]]:
    """``before(x)``, and a function from its gradient to the gradients of ``x`` and of the ``needed`` parameters."""
    if isinstance(before, nn.Identity):
        return x, lambda grad: (grad, [])
    if isinstance(before, nn.GELU):
        kind = before.approximate
        return before(x), lambda grad: (torch.ops.aten.gelu_backward(grad, x, approximate=kind), [])
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        leaves = [
            None if p is None else p.detach().requires_grad_(wanted)
            for p, wanted in zip(parameters, needed, strict=True)
        ]
        y = _compute(before, x, leaves)

    def backward(grad: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        wanted = [p for p in leaves if p is not None and p.requires_grad]
        found = iter(torch.autograd.grad(y, (x, *wanted), grad))
        return next(found), [None if p is None or not p.requires_grad else next(found) for p in leaves]

    return y.detach(), backward


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``."""
    if not _goes_to_onednn(x, weight):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


def _add_weight_gradient(total: Tensor | None, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor | None:
    """Adds to ``total`` the gradient of ``weight``; ``grad`` is the gradient of ``x @ weight.T``. None counts as 0."""
    if not _goes_to_onednn(grad, weight) or x.dtype != weight.dtype:
        part = (grad.mT @ x).to(weight.dtype)
        return part if total is None else total.add_(part)
    for rows, tokens in zip(grad.split(TOKENS), x.split(TOKENS), strict=True):
        part, _ = torch.ops.aten.mkldnn_linear_backward_weights(rows.to_mkldnn(), tokens.to_mkldnn(), weight, False)
        total = part if total is None else total.add_(part)
    return total


def _goes_to_onednn(x: Tensor, weight: Tensor) -> bool:
    """Leaves float32 products on the CPU to oneDNN, which is up to twice as fast there as PyTorch's BLAS."""
    available = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    plain = x.device.type == 'cpu' and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled('cpu')
    return available and plain
