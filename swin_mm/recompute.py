"""Linear layers that keep the input of the cheap layer before them, a norm or GELU, and not its output as well.

The output is computed again in the backward pass, which costs a few percent of the matrix products that need it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

TOKENS = 2048  # at a time after GELU on the CPU, so that the widest layer of a block stays in the cache


def linear_after(before: nn.Module, linear: nn.Linear, x: Tensor) -> Tensor:
    """``linear(before(x))``; in training, and where both are plain layers, without keeping ``before(x)``."""
    plain = type(before) in (nn.LayerNorm, nn.GELU, nn.Identity) and type(linear) is nn.Linear
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in (before, linear))
    if not plain or hooked or not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return linear(before(x))
    return _LinearAfter.apply(before, x, linear.weight, linear.bias, *before.parameters())


class _LinearAfter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, before: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, *parameters)
        ctx.before, ctx.device = before, x.device.type
        ctx.autocast = torch.is_autocast_enabled(ctx.device), torch.get_autocast_dtype(ctx.device)
        tokens = x.flatten(0, -2)
        parts = [_linear(before(part), weight, bias) for part in tokens.split(_step(before, tokens))]
        return _joined(parts).unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = ctx.saved_tensors
        _, x_needed, weight_needed, bias_needed, *needed = ctx.needs_input_grad
        tokens, grad = x.flatten(0, -2), grad.flatten(0, -2)
        step = _step(ctx.before, tokens)
        grads_x, grad_weight, grad_parameters = [], None, [None] * len(parameters)
        enabled, dtype = ctx.autocast
        with torch.autocast(ctx.device, dtype, enabled=enabled):
            for part, rows in zip(tokens.split(step), grad.split(step), strict=True):
                y, backward = _again(ctx.before, part)
                if weight_needed:
                    grad_weight = _add_weight_gradient(grad_weight, rows, y, weight)
                if x_needed or any(needed):
                    rows = _linear(rows, weight.t()).to(y.dtype)
                    rows, *grad_parameters = backward(rows)
                    grads_x.append(rows)
        grad_bias = grad.sum(0).to(weight.dtype) if bias_needed else None
        grad_x = _joined(grads_x).view_as(x) if x_needed else None
        return None, grad_x, grad_weight, grad_bias, *grad_parameters


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _step(before: nn.Module, tokens: Tensor) -> int:
    """How many tokens at a time: GELU's are four times as wide as others."""
    return TOKENS if isinstance(before, nn.GELU) and tokens.device.type == 'cpu' else max(1, len(tokens))


def _again(before: nn.Module, x: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor | None, ...]]]:
    """``before(x)``, and what gives the gradients of ``x`` and of the parameters from that of ``before(x)``."""
    if isinstance(before, nn.Identity):
        return x, lambda grad: (grad,)
    if isinstance(before, nn.GELU):
        kind = before.approximate
        return before(x), lambda grad: (torch.ops.aten.gelu_backward(grad, x, approximate=kind),)
    wanted = [p for p in before.parameters() if p.requires_grad]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = before(x)

    def backward(grad: Tensor) -> tuple[Tensor | None, ...]:
        found = iter(torch.autograd.grad(y, (x, *wanted), grad))
        return next(found), *(next(found) if p.requires_grad else None for p in before.parameters())

    return y.detach(), backward


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``."""
    if not _onednn(x, weight):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


def _add_weight_gradient(total: Tensor | None, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``total``, if there is one, plus the gradient of ``weight`` that ``x @ weight.T`` gets from its own, ``grad``."""
    if not _onednn(grad, weight) or x.dtype != weight.dtype:
        part = (grad.mT @ x).to(weight.dtype)
        return part if total is None else total.add_(part)
    for rows, tokens in zip(grad.split(TOKENS), x.split(TOKENS), strict=True):
        part, _ = torch.ops.aten.mkldnn_linear_backward_weights(rows.to_mkldnn(), tokens.to_mkldnn(), weight, False)
        total = part if total is None else total.add_(part)
    return total


def _onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether a product is left to oneDNN: float32 on the CPU, where it is up to twice as fast as PyTorch's BLAS."""
    available = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    plain = x.device.type == 'cpu' and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled('cpu')
    return available and plain
