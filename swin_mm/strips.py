"""A Swin block on the CPU without gradient: a strip of windows goes through all of it while it is in the cache.

Patch merging likewise. The same numbers as the layers one after the other, to rounding. Nothing of the size of the map
is written but its result, and weights are packed for oneDNN.
"""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import WindowGrid, cpu
from .attention.grid import Strip
from .threads import each

if TYPE_CHECKING:
    from .layers import PatchMerging, SwinBlock

PACKED = (torch.float32, torch.bfloat16)

Layer = Callable[[Tensor], Tensor]


def applies(block: 'SwinBlock', x: Tensor) -> bool:
    """Whether this way through ``block`` gives what its layers give for ``x``: plain ones, for inference on the CPU."""
    attn, mlp = block.attn, block.mlp
    if attn.kernel_name != 'auto' or type(mlp.act) is not nn.GELU:
        return False
    return _plain(block, x, (attn.qkv, attn.proj, mlp.fc1, mlp.fc2), (block.norm1, block.norm2))


def merging_applies(merging: 'PatchMerging', x: Tensor) -> bool:
    """The same of ``merging``."""
    return _plain(merging, x, (merging.reduction,), (merging.norm,))


def _plain(module: nn.Module, x: Tensor, linears: Iterable[nn.Module], norms: Iterable[nn.Module]) -> bool:
    if torch.is_grad_enabled() or module.training or x.device.type != 'cpu':
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or _compute_dtype(x) not in PACKED:
        return False
    plain = all(type(layer) is nn.Linear for layer in linears) and all(type(norm) is nn.LayerNorm for norm in norms)
    return plain and not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def forward(block: 'SwinBlock', x: Tensor) -> Tensor:
    """What ``block`` makes of the map ``x`` ``(B, H, W, C)``."""
    attn = block.attn
    dtype = _compute_dtype(x)
    size = tuple(x.shape[1:3])
    grid = WindowGrid(size, attn.window, attn.shift_on(size))
    table = attn.relative_position_bias_table
    bias = _kept(attn, table, (grid.shift,), lambda: grid.bias_variants(attn.bias()))
    qkv, proj = _linear(attn.qkv, dtype), _linear(attn.proj, dtype)
    fc1, fc2 = _linear(block.mlp.fc1, dtype, block.mlp.act), _linear(block.mlp.fc2, dtype)
    pad = x.new_zeros(attn.qkv.out_features, dtype=dtype) if attn.qkv.bias is None else attn.qkv.bias.to(dtype)

    result = torch.empty_like(x, memory_format=torch.contiguous_format)

    def through(strip: Strip, images: slice) -> None:
        tokens = cpu.take(x[images], strip)
        y = qkv(_norm(block.norm1, tokens, dtype).flatten(0, 1)).unflatten(0, tokens.shape[:2])
        y = cpu.attend(y, pad, bias, strip.layout, attn.scale)
        tokens = tokens + proj(y.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        y = fc2(fc1(_norm(block.norm2, tokens, dtype).flatten(0, 1))).unflatten(0, tokens.shape[:2])
        cpu.put(result[images], strip, tokens, y)

    _keep_freed_memory()
    each(through, cpu.strips_of(x, grid, dtype))
    return result


def merge(merging: 'PatchMerging', x: Tensor) -> Tensor:
    """What ``merging`` makes of the map ``x`` ``(B, H, W, C)`` of even sides."""
    dtype = _compute_dtype(x)
    reduction = _linear(merging.reduction, dtype)
    B, H, W, _ = x.shape
    result = x.new_empty(B, H // 2, W // 2, merging.reduction.out_features, dtype=dtype)

    def through(start: int, stop: int) -> None:
        tokens = merging.gather(x[:, 2 * start : 2 * stop])
        y = reduction(_norm(merging.norm, tokens, dtype).flatten(0, 2))
        result[:, start:stop] = y.unflatten(0, tokens.shape[:3])

    number = min(H // 2, cpu.number_of_strips(result[..., 0].numel(), dtype))
    each(through, pairwise(H // 2 * i // number for i in range(number + 1)))
    return result


@cache
def _keep_freed_memory() -> None:
    """Has the C library keep what is freed, up to 64 MiB, for the next layer.

    Else glibc may give it back to the system, which clears every page of it anew: a tenth of the time at 512x512. It
    keeps twice the largest block of at most 32 MiB that was freed so far (mallopt(3), M_MMAP_THRESHOLD).
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


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
    packed = _kept(layer, layer.weight, (dtype,), lambda: _packed(layer.weight, dtype))
    post, kind = ('none', '') if act is None else ('gelu', act.approximate)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, post, [], kind)


def _packed(weight: Tensor, dtype: torch.dtype) -> Tensor:
    weight = weight.detach().to(dtype).contiguous()
    return torch.ops.mkldnn._reorder_linear_weight(weight, cpu.STRIP // dtype.itemsize)


_KEPT: WeakKeyDictionary[nn.Module, tuple[tuple, Tensor]] = WeakKeyDictionary()


def _kept(owner: nn.Module, weight: Tensor, use: tuple, make: Callable[[], Tensor]) -> Tensor:
    """What ``make`` makes of a weight of ``owner`` for this ``use``, made anew when the weight has changed.

    Versions tell of changes that autograd sees. Of those made through ``.data``, as by averaging hooks, only the
    content tells. It is summed as integers; of a large weight one word in 31, which meets every row and every column,
    because reading all of it takes a twentieth of the time of a forward pass.
    """
    content = weight.detach().contiguous().flatten().view(torch.uint8)
    end = len(content) // 8 * 8
    words, rest = content[:end].view(torch.int64), content[end:].tolist()
    words = words[:: 31 if len(words) > 2**15 else 1]
    version = None if weight.is_inference() else weight._version
    state = (use, version, weight.data_ptr(), weight.shape, words.sum().item(), rest)
    known, result = _KEPT.get(owner, (None, None))
    if known != state:
        result = make()
        _KEPT[owner] = (state, result)
    return result
