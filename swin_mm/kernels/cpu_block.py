"""Fused CPU inference: a few rows of windows at a time run through norm, attention and MLP.

Three ideas make it fast; the numbers are those of the layers one after the other, to rounding.

* Strips. Layer by layer, each of a dozen layers writes a map that is larger than the cache and the next one reads it
  back from memory. A strip of windows is small enough to stay in the cache through the whole block, and windows are
  all that attention reads, so a strip needs nothing of the others. Each core takes strips of its own.
* Packed weights. oneDNN multiplies fastest by weights in an order of its own. They are packed once and kept until
  the weights change.
* Kept memory. glibc gives large freed blocks back to the system, which clears every page before it hands it out again.
  Intermediates of one block have the sizes of the next, so the memory is kept.
"""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from . import cpu
from .block import NOTHING, BlockLayers, MergingLayers
from .cosine import make_cosine_
from .cpu_threads import map_on_cores
from .grid import Strip, WindowGrid

PACKED = (torch.float32, torch.bfloat16)
READ_WHOLE = 2**13  # words of 8 bytes of a weight that are read to see whether it changed

Linear = Callable[[Tensor], Tensor]


def can_fuse(layers: BlockLayers, x: Tensor) -> bool:
    """Whether `fused_block` computes what ``layers`` compute for ``x``: plain ones, for inference on the CPU."""
    a = layers
    if a.windows is None or a.training or type(a.act) is not nn.GELU:
        return False
    norms = (a.before_attention, a.after_attention, a.before_mlp, a.after_mlp)
    return _is_plain_inference(x, (a.qkv, a.proj, a.fc1, a.fc2), norms)


def can_fuse_merging(layers: MergingLayers, x: Tensor) -> bool:
    """Whether `fused_merging` computes what ``layers`` compute for ``x``."""
    return not layers.training and _is_plain_inference(x, (layers.reduction,), (layers.before, layers.after))


def _is_plain_inference(x: Tensor, linears: Iterable[nn.Module], norms: Iterable[nn.Module]) -> bool:
    if torch.is_grad_enabled() or x.device.type != 'cpu' or _compute_dtype(x) not in PACKED:
        return False
    plain = all(norm is NOTHING or type(norm) is nn.LayerNorm for norm in norms)
    return plain and all(type(layer) is nn.Linear for layer in linears)


def fused_block(layers: BlockLayers, x: Tensor) -> Tensor:
    """Computes a block on the map ``x`` ``(B, H, W, C)``, without gradient and dropout."""
    a, w = layers, layers.windows
    assert w is not None, 'can_fuse says which blocks'
    dtype = _compute_dtype(x)
    grid = WindowGrid((x.shape[1], x.shape[2]), w.window, w.shift)
    source, *others = w.sources
    use = (grid.window, grid.shift, *map(_state, others))
    with torch.autocast('cpu', enabled=False):  # what is kept serves calls without autocast too
        bias = cached(source, use, lambda: grid.bias_variants(w.bias()))
    qkv = _pack_linear(a.qkv.weight, w.qkv_bias, dtype)
    proj = _pack_linear(a.proj.weight, a.proj.bias, dtype)
    fc1 = _pack_linear(a.fc1.weight, a.fc1.bias, dtype, a.act)
    fc2 = _pack_linear(a.fc2.weight, a.fc2.bias, dtype)
    heads = (3, len(bias[0]), -1)
    pad = x.new_zeros(a.qkv.out_features, dtype=dtype) if w.qkv_bias is None else w.qkv_bias.to(dtype)

    result = torch.empty_like(x, memory_format=torch.contiguous_format)

    def compute_strip(strip: Strip, images: slice) -> None:
        tokens = cpu.read_strip(x[images], strip)
        shape = tokens.shape[:2]
        y = qkv(_norm(a.before_attention, tokens, dtype).flatten(0, 1))
        if w.cosine is not None:
            make_cosine_(y.unflatten(-1, heads), w.cosine)
        y = cpu.attend(y.unflatten(0, shape), pad, bias, strip.layout, w.scale)
        y = _norm(a.after_attention, proj(y.flatten(0, 1)), dtype)
        tokens = tokens + y.unflatten(0, shape)
        y = _norm(a.after_mlp, fc2(fc1(_norm(a.before_mlp, tokens, dtype).flatten(0, 1))), dtype)
        cpu.write_strip(result[images], strip, tokens, y.unflatten(0, shape))

    _keep_freed_memory()
    map_on_cores(compute_strip, cpu.strips_of(x, grid, dtype))
    return result


def fused_merging(layers: MergingLayers, x: Tensor) -> Tensor:
    """Computes patch merging on the map ``x`` ``(B, H, W, C)`` of even sides, some rows at a time."""
    dtype = _compute_dtype(x)
    reduction = _pack_linear(layers.reduction.weight, layers.reduction.bias, dtype)
    B, H, W, _ = x.shape
    result = x.new_empty(B, H // 2, W // 2, layers.reduction.out_features, dtype=dtype)

    def compute_rows(start: int, stop: int) -> None:
        tokens = layers.gather(x[:, 2 * start : 2 * stop])
        y = _norm(layers.after, reduction(_norm(layers.before, tokens, dtype).flatten(0, 2)), dtype)
        result[:, start:stop] = y.unflatten(0, tokens.shape[:3])

    number = min(H // 2, cpu.number_of_strips(result[..., 0].numel(), dtype))
    map_on_cores(compute_rows, pairwise(H // 2 * i // number for i in range(number + 1)))
    return result


@cache
def _keep_freed_memory() -> None:
    """Has the C library keep up to 64 MiB of what is freed: at 512x512 page faults took a tenth of the time.

    glibc keeps twice the largest block of at most 32 MiB that was freed so far (mallopt(3), M_MMAP_THRESHOLD). So one
    such block is allocated and freed.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype


def _norm(norm: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    if norm is NOTHING:
        return x.to(dtype)
    assert isinstance(norm, nn.LayerNorm)
    # Not `norm(x)`: under autocast that would be float32 and copied once more.
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)


def _pack_linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, act: nn.Module | None = None) -> Linear:
    """A linear layer, and ``act`` behind it, as one call with a packed weight."""
    assert act is None or isinstance(act, nn.GELU)
    bias = None if bias is None else bias.to(dtype)
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        weight = weight.to(dtype)
        return lambda x: F.linear(x, weight, bias) if act is None else act(F.linear(x, weight, bias))
    packed = cached(weight, (dtype,), lambda: _pack(weight, dtype))
    post, kind = ('none', '') if act is None else ('gelu', act.approximate)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, post, [], kind)


def _pack(weight: Tensor, dtype: torch.dtype) -> Tensor:
    weight = weight.detach().to(dtype).contiguous()
    return torch.ops.mkldnn._reorder_linear_weight(weight, cpu.STRIP // dtype.itemsize)


_CACHE = WeakTensorKeyDictionary()  # a weight: (its state, what was made of it)


def cached(weight: Tensor, use: tuple, make: Callable[[], Tensor]) -> Tensor:
    """Returns ``make()``, which is made from ``weight``, and keeps it until ``weight`` or ``use`` changes."""
    state = (use, _state(weight))
    known, result = _CACHE.get(weight, (None, None))
    if known != state:
        result = make()
        _CACHE[weight] = (state, result)
    return result


def _state(weight: Tensor) -> tuple:
    """Gives what changes with ``weight``.

    Versions tell of changes that autograd sees, and of all that are made under ``torch.no_grad()``. Of changes through
    ``.data``, as by averaging hooks, only the content tells, see `_digest`.
    """
    version = None if weight.is_inference() else weight._version
    return version, weight.data_ptr(), weight.shape, _digest(weight)


def _digest(weight: Tensor) -> int:
    """Gives a number that changes with the content of ``weight``, or with its order.

    A small weight is read whole. To read a large one takes a twentieth of the time of a forward pass, so only some
    words of 8 bytes are read: at least one in every row and every column. A change through ``.data`` that meets none
    of them is not seen.
    """
    content = weight.detach().contiguous().view(-1).view(torch.uint8)
    words = (F.pad(content, (0, -len(content) % 8)) if len(content) % 8 else content).view(torch.int64)
    if len(words) > READ_WHOLE:
        words = words[:: _step(len(weight), len(words) // len(weight))]
    return int(torch.dot(words, _factors(len(words))))


@cache
def _step(rows: int, columns: int) -> int:
    """The step through a matrix, row after row, that meets every row and every column."""
    step = min(rows, columns)
    while gcd(step, columns) > 1:
        step -= 1
    return step


@cache
def _factors(count: int) -> Tensor:
    """One random factor for each word, so that words that change places change the sum; ``(count,)`` int64."""
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(0))
