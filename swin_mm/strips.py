"""A Swin block on the CPU without gradient: a strip of windows goes through all of it while it is in the cache.

The same numbers as the layers one after the other, to rounding. Nothing of the size of the map is written but its
result, and weights are packed for oneDNN.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention.grid import Strip, WindowGrid

if TYPE_CHECKING:
    from .layers import SwinBlock

TOKENS = 1600  # a strip; in float32 at 96 channels 2.4 MB in the widest layer
PACKED = (torch.float32, torch.bfloat16)

Layer = Callable[[Tensor], Tensor]


def applies(block: 'SwinBlock', x: Tensor) -> bool:
    """Whether this way through ``block`` gives what its layers give for ``x``: plain ones, for inference on the CPU."""
    if torch.is_grad_enabled() or block.training or x.device.type != 'cpu' or block.attn.kernel_name != 'auto':
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or _compute_dtype(x) not in PACKED:
        return False
    linears = (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2)
    plain = all(type(layer) is nn.Linear for layer in linears)
    plain &= type(block.norm1) is type(block.norm2) is nn.LayerNorm and type(block.mlp.act) is nn.GELU
    return plain and not any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())


@torch.autocast('cpu', enabled=False)
def forward(block: 'SwinBlock', x: Tensor) -> Tensor:
    """What ``block`` makes of the map ``x`` ``(B, H, W, C)``."""
    attn, (B, H, W, C) = block.attn, x.shape
    dtype = _compute_dtype(x)
    grid = WindowGrid((H, W), attn.window, attn.shift_on((H, W)))
    bias = grid.bias_variants(attn.bias())
    qkv, proj = _linear(attn.qkv, dtype), _linear(attn.proj, dtype)
    fc1, fc2 = _linear(block.mlp.fc1, dtype, block.mlp.act), _linear(block.mlp.fc2, dtype)
    pad = x.new_zeros(3 * C, dtype=dtype) if attn.qkv.bias is None else attn.qkv.bias.to(dtype)

    x, result = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    for strip in grid.strips(TOKENS):
        # Where the map is small, several images make a strip.
        for some in range(0, B, images := max(1, TOKENS // strip.tokens)):
            images_in, images_out = x[some : some + images], result[some : some + images]
            parts = [images_in[:, start:stop] for start, stop in strip.slices]
            tokens = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).reshape(-1, C)
            y = qkv(_norm(block.norm1, tokens, dtype)).view(-1, strip.tokens, 3 * C)
            y = _attend(y, pad, bias, strip, attn.num_heads, attn.scale)
            tokens = tokens + proj(y)
            y = fc2(fc1(_norm(block.norm2, tokens, dtype)))
            tokens, y = (t.view(-1, strip.tokens // W, W, C) for t in (tokens, y))
            done = 0
            for start, stop in strip.slices:
                rows = slice(done, done := done + stop - start)
                torch.add(tokens[:, rows], y[:, rows], out=images_out[:, start:stop])
    return result


def _attend(qkv: Tensor, pad: Tensor, bias: Tensor, strip: Strip, heads: int, scale: float) -> Tensor:
    """The attended tokens ``(images * tokens, C)`` of a strip, given their ``qkv`` ``(images, tokens, 3 * C)``."""
    images, N = len(qkv), bias.shape[-1]
    if strip.gather.numel() > strip.tokens:  # there is padding
        qkv = torch.cat([qkv, pad.expand(images, 1, -1)], dim=1)
    into, back = _head_rows(strip, heads, N)
    qkv = _select(qkv.view(images, -1, qkv.shape[-1] // (3 * heads)), into)
    qkv = qkv.view(images, 3, -1, heads, N, qkv.shape[-1])
    attended, done = [], 0
    for variant, count in enumerate(strip.variants):
        if count:
            q, k, v = qkv[:, :, done : done + count].transpose(0, 1).flatten(1, 2)
            attended.append(_attention(q, k, v, bias[variant], scale).reshape(images, -1, q.shape[-1]))
            done += count
    out = attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
    return _select(out, back).view(images * strip.tokens, -1)


@lru_cache(maxsize=256)
def _head_rows(strip: Strip, heads: int, N: int) -> tuple[Tensor, Tensor]:
    """``strip.gather`` and ``strip.scatter`` for the rows of single heads, so that nothing is transposed after them.

    From (token, 3, head) to (3, window, head, place), and from (window, head, place) to (token, head).
    """
    head, part = torch.arange(heads), torch.arange(3).view(3, 1, 1, 1)
    into = (strip.gather.view(-1, 1, N) * 3 + part) * heads + head[:, None]
    window, place = strip.scatter // N, strip.scatter % N
    back = (window[:, None] * heads + head) * N + place[:, None]
    return into.flatten(), back.flatten()


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Attention ``(n, heads, N, head_dim)``; in bfloat16 separate products are faster than PyTorch's fused ones."""
    if q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, bias[None].to(q.dtype), scale=scale)
    scores = torch.add(bias, q @ k.transpose(-2, -1), alpha=scale)  # in float32, as the bias is
    return scores.softmax(dim=-1).to(v.dtype) @ v


def _select(x: Tensor, index: Tensor) -> Tensor:
    """``x[:, index]``; rows of a matrix are selected several times as fast."""
    images, tokens, _ = x.shape
    index = (index + torch.arange(images)[:, None] * tokens).flatten() if images > 1 else index
    return x.flatten(0, 1).index_select(0, index).unflatten(0, (images, -1))


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype


def _norm(norm: nn.LayerNorm, x: Tensor, dtype: torch.dtype) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)


def _linear(layer: nn.Linear, dtype: torch.dtype, act: nn.GELU | None = None) -> Layer:
    """``layer`` and what follows it as one call; its weight in the layout that oneDNN multiplies fastest."""
    bias = None if layer.bias is None else layer.bias.to(dtype)
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        weight = layer.weight.to(dtype)
        return lambda x: F.linear(x, weight, bias) if act is None else act(F.linear(x, weight, bias))
    packed = _packed(layer, dtype)
    post, kind = ('none', '') if act is None else ('gelu', act.approximate)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, post, [], kind)


_PACKED: WeakKeyDictionary[nn.Linear, tuple[tuple, Tensor]] = WeakKeyDictionary()


def _packed(layer: nn.Linear, dtype: torch.dtype) -> Tensor:
    """The weight of ``layer`` as oneDNN wants it, made anew when the weight has changed.

    Versions tell of changes that autograd sees; those made through ``.data``, as by averaging hooks, only the content
    tells. Summing it as integers takes a sixth of the time of packing.
    """
    weight = layer.weight
    bits = weight.detach().contiguous().flatten().view(torch.uint8)
    words = bits[: len(bits) // 8 * 8].view(torch.int64)
    state = (dtype, weight.data_ptr(), weight.shape, words.sum().item(), bits[-8:].sum().item())
    known, packed = _PACKED.get(layer, (None, None))
    if known != state:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype).contiguous(), TOKENS)
        _PACKED[layer] = (state, packed)
    return packed
