"""Window attention on the CPU, a strip of windows at a time, so that scores stay in the cache and are never saved.

The backward pass computes scores again from queries and keys. Windows with the same mask are computed together.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .grid import Layout, Strip, WindowGrid

STRIP = 6400  # bytes of one channel in a strip; with 96 channels the widest layer of a block has 2.4 MB


def window_attention(
    qkv: Tensor,
    bias: Tensor,
    pad: Tensor | None,
    window: tuple[int, int],
    shift: tuple[int, int],
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """The attended map ``(B, H, W, C)``; for the arguments see `swin_mm.kernels`.

    Saves nothing for the backward pass but its arguments. Raises ValueError for what it cannot do.
    """
    if dropout:
        raise ValueError(f"kernel='cpu' has no dropout of attention weights, got {dropout}: use 'reference'")
    if qkv.device.type != 'cpu':
        raise ValueError(f"kernel='cpu' must be given tensors on the CPU, got {qkv.device}: use 'auto'")
    if torch.jit.is_tracing():
        raise ValueError("kernel='cpu' cuts the example's map into strips, and a trace would keep them: use 'auto'")
    grid = WindowGrid((qkv.shape[1], qkv.shape[2]), window, shift)
    pad = torch.zeros_like(qkv[0, 0, 0]) if pad is None else pad.to(qkv.dtype)
    return _WindowAttention.apply(qkv, bias, pad, grid, scale)


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, pad: Tensor, grid: WindowGrid, scale: float) -> Tensor:
        qkv = qkv.contiguous()
        ctx.save_for_backward(qkv, bias, pad)
        ctx.grid, ctx.scale = grid, scale
        out = qkv.new_empty(*qkv.shape[:3], qkv.shape[4] * qkv.shape[5])
        variants = grid.bias_variants(bias)
        for strip, images in strips_of(qkv, grid, qkv.dtype):
            tokens = read_strip(qkv.flatten(3)[images], strip)
            write_strip(out[images], strip, attend(tokens, pad.flatten(), variants, strip.layout, scale))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, bias, pad = ctx.saved_tensors
        heads, N = bias.shape[:2]
        variants, zeros = ctx.grid.bias_variants(bias), grad.new_zeros(grad.shape[-1])
        exact = torch.promote_types(bias.dtype, torch.float32)  # sums over all windows
        grad_bias, grad_pad = (torch.zeros_like(x, dtype=exact) for x in (variants[0], pad))
        grad_qkv = torch.empty_like(qkv)
        for strip, images in strips_of(qkv, ctx.grid, qkv.dtype):
            layout = strip.layout
            windows = _windows(read_strip(qkv.flatten(3)[images], strip), pad.flatten(), layout, heads, N)
            rows = _windows(read_strip(grad[images], strip), zeros, layout, heads, N, parts=1)[:, 0]
            part = _backward(windows, rows, variants, layout, ctx.scale, grad_bias).flatten(1, -2)
            _, back, padding = _rows(layout, heads, N, 3)
            write_strip(grad_qkv.flatten(3)[images], strip, _select(part, back).view(len(part), layout.tokens, -1))
            grad_pad += _select(part, padding).view(-1, *pad.shape).sum(0, dtype=exact)
        return grad_qkv, grad_bias.to(bias.dtype), grad_pad.to(pad.dtype), None, None


def strips_of(x: Tensor, grid: WindowGrid, dtype: torch.dtype) -> Iterator[tuple[Strip, slice]]:
    """Yields strips of the maps ``x`` ``(B, H, W, ...)`` for work in ``dtype``, and images: of small maps several."""
    tokens = STRIP // dtype.itemsize
    for strip in grid.strips(number_of_strips(grid.num_windows * prod(grid.window), dtype)):
        step = max(1, tokens // strip.layout.tokens)
        for first in range(0, len(x), step):
            yield strip, slice(first, first + step)


def number_of_strips(tokens: int, dtype: torch.dtype) -> int:
    """How many strips to make of ``tokens`` tokens that are computed in ``dtype``."""
    number, threads = round(tokens * dtype.itemsize / STRIP), torch.get_num_threads()
    if number <= 1:
        return 1
    return -(-number // threads) * threads  # a multiple, so that no thread has more to do than another


def read_strip(x: Tensor, strip: Strip) -> Tensor:
    """The tokens ``(images, tokens, C)`` of a strip in the maps ``(images, H, W, C)``."""
    parts = [x[:, start:stop] for start, stop in strip.slices]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).flatten(1, 2)


def write_strip(out: Tensor, strip: Strip, x: Tensor, y: Tensor | None = None) -> None:
    """Writes the tokens ``x`` ``(images, tokens, C)`` of a strip, plus ``y``, into the maps ``(images, H, W, C)``."""
    first = 0
    for start, stop in strip.slices:
        target = out[:, start:stop]
        rows = slice(first, first + (stop - start) * out.shape[2])
        first = rows.stop
        if y is None:
            target.copy_(x[:, rows].view_as(target))
        else:
            torch.add(x[:, rows].view_as(target), y[:, rows].view_as(target), out=target)


def attend(qkv: Tensor, pad: Tensor, variants: Tensor, layout: Layout, scale: float) -> Tensor:
    """The attended tokens ``(images, tokens, C)`` of a strip.

    ``qkv`` ``(images, tokens, 3 * C)``. ``pad`` ``(3 * C,)``: the same of a padding token. ``variants``
    ``(4, heads, N, N)``: the bias with each of the four masks.
    """
    heads, N = variants.shape[1:3]
    windows = _windows(qkv, pad, layout, heads, N)
    attended = []
    for variant, alike in _windows_by_mask(layout):
        q, k, v = windows[:, :, alike].transpose(0, 1).flatten(1, 2)
        out = _weights(q, k, variants[variant], scale).to(v.dtype) @ v
        attended.append(out.reshape(len(qkv), -1, q.shape[-1]))
    out = attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
    return _select(out, _rows(layout, heads, N, 1)[1]).view(len(qkv), layout.tokens, -1)


def _weights(q: Tensor, k: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Weights ``(n, heads, N, N)``, in float32 at least.

    PyTorch's fused attention has tiles for long sequences; in windows these separate operations are faster.
    """
    scores = q @ k.transpose(-2, -1)
    bias = bias.to(torch.promote_types(bias.dtype, torch.float32))
    scores = torch.add(bias, scores, alpha=scale, out=scores if scores.dtype == bias.dtype else None)
    return scores.softmax(dim=-1)


def _backward(
    windows: Tensor, grad: Tensor, variants: Tensor, layout: Layout, scale: float, grad_bias: Tensor
) -> Tensor:
    """The gradient of ``windows`` ``(images, 3, n, heads, N, head_dim)`` from ``grad``, the gradient of the result.

    Adds the gradient of the bias to ``grad_bias`` ``(heads, N, N)``.
    """
    result = torch.empty_like(windows)
    for variant, alike in _windows_by_mask(layout):
        q, k, v = windows[:, :, alike].transpose(0, 1).flatten(1, 2)
        out = grad[:, alike].flatten(0, 1)
        weights = _weights(q, k, variants[variant], scale)
        grad_weights = (out @ v.transpose(-2, -1)).to(weights.dtype)
        scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_bias += scores.sum(dim=0)
        scores = (scores * scale).to(q.dtype)
        parts = (scores @ k, scores.transpose(-2, -1) @ q, weights.to(v.dtype).transpose(-2, -1) @ out)
        for i, part in enumerate(parts):
            result[:, i, alike] = part.unflatten(0, (len(windows), -1))
    return result


def _windows_by_mask(layout: Layout) -> Iterator[tuple[int, slice]]:
    """Each mask that occurs, as an index into `WindowGrid.mask_variants`, and where its windows are."""
    first = 0
    for variant, count in enumerate(layout.variants):
        if count:
            yield variant, slice(first, first + count)
        first += count


def _windows(x: Tensor, pad: Tensor, layout: Layout, heads: int, N: int, parts: int = 3) -> Tensor:
    """Gathers windows ``(images, parts, n, heads, N, head_dim)`` of ``(images, tokens, parts * heads * head_dim)``."""
    images = len(x)
    if layout.gather.numel() > layout.tokens:  # there is padding
        x = torch.cat([x, pad.expand(images, 1, -1)], dim=1)
    rows = _select(x.reshape(images, -1, x.shape[-1] // (parts * heads)), _rows(layout, heads, N, parts)[0])
    return rows.view(images, parts, -1, heads, N, rows.shape[-1])


@lru_cache(maxsize=256)
def _rows(layout: Layout, heads: int, N: int, parts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of rows, a row being one head of one token, so that nothing is transposed before or after.

    The first gathers rows (part, window, head, place) from rows (token, part, head). The second goes back. The third
    says where padding is among the former.
    """
    head, part = torch.arange(heads), torch.arange(parts)
    into = (layout.gather.view(-1, 1, N) * parts + part.view(-1, 1, 1, 1)) * heads + head[:, None]
    number = len(layout.gather) // N

    def back(places: Tensor) -> Tensor:
        window, place = places[:, None, None] // N, places[:, None, None] % N
        return (((part[:, None] * number + window) * heads + head) * N + place).flatten()

    return into.flatten(), back(layout.scatter), back((layout.gather == layout.tokens).nonzero()[:, 0])


def _select(x: Tensor, index: Tensor) -> Tensor:
    """Computes ``x[:, index]`` for ``(images, rows, width)``, as rows of one matrix, which is several times as fast."""
    images, rows, _ = x.shape
    index = (index + torch.arange(images)[:, None] * rows).flatten() if images > 1 else index
    return x.flatten(0, 1).index_select(0, index).unflatten(0, (images, -1))
