"""Linear layers that keep the input of the cheap layer before them, a norm or GELU, and not its output as well.

The output is computed again in the backward pass, which costs a few percent of the matrix products that need it.
"""

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
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = ctx.saved_tensors
        _, x_needed, weight_needed, bias_needed, *needed = ctx.needs_input_grad
        tokens, grad = x.flatten(0, -2), grad.flatten(0, -2)
        grad_x = torch.empty_like(tokens) if x_needed else None
        grad_weight = torch.zeros_like(weight) if weight_needed else None
        grad_parameters = [None] * len(parameters)
        transposed = weight.t().contiguous()
        enabled, dtype = ctx.autocast
        with torch.autocast(ctx.device, dtype, enabled=enabled):
            step = _step(ctx.before, tokens)
            for i, (part, rows) in enumerate(zip(tokens.split(step), grad.split(step), strict=True)):
                y = ctx.before(part)
                if weight_needed:
                    _add_product(grad_weight, rows.mT, y)
                if x_needed or any(needed):
                    rows = _linear(rows, transposed).to(y.dtype)
                    rows, *grad_parameters = _backward(ctx.before, part, rows)
                if x_needed:
                    grad_x[i * step : (i + 1) * step] = rows
        grad_bias = grad.sum(0).to(weight.dtype) if bias_needed else None
        return None, None if grad_x is None else grad_x.view_as(x), grad_weight, grad_bias, *grad_parameters


def _step(before: nn.Module, tokens: Tensor) -> int:
    """How many tokens at a time: GELU's are four times as wide as others."""
    return TOKENS if isinstance(before, nn.GELU) and tokens.device.type == 'cpu' else max(1, len(tokens))


def _backward(before: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of ``x`` and of the parameters of ``before``, given that of ``before(x)``."""
    if isinstance(before, nn.GELU):
        return (torch.ops.aten.gelu_backward(grad, x, approximate=before.approximate),)
    if isinstance(before, nn.Identity):
        return (grad,)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        wanted = [p for p in before.parameters() if p.requires_grad]
        found = iter(torch.autograd.grad(before(x), (x, *wanted), grad))
    return next(found), *(next(found) if p.requires_grad else None for p in before.parameters())


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``; float32 on the CPU by oneDNN, which is faster than PyTorch's BLAS on many of them."""
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    plain = x.device.type == 'cpu' and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled('cpu')
    if not (plain and onednn):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Adds ``a @ b`` to ``total``, in place."""
    if a.dtype == b.dtype == total.dtype and not torch.is_autocast_enabled(total.device.type):
        total.addmm_(a, b)
    else:
        total += a @ b
