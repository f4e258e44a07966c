"""How window attention, and whole blocks of it, are computed. All kernels give the same numbers.

A kernel is a function ``window_attention(qkv, bias, pad, window, shift, scale, dropout) -> map``. It agrees with
``reference`` in value and gradient. Delete any other one, and only time and memory change.

* ``qkv`` ``(B, H, W, 3, heads, head_dim)``: queries, keys and values of the tokens that exist.
* ``bias`` ``(heads, N, N)``: added to the scores of the N tokens of a window.
* ``pad`` ``(3, heads, head_dim)``: query, key and value of a padding token. None means zeros.
* ``window``, ``shift``: (height, width) in tokens.
* ``scale``: factor on the scores. ``dropout``: probability to drop a weight.
* The map is ``(B, H, W, heads * head_dim)``.
"""

import logging
from functools import cache

import torch
from torch import Tensor

from . import cpu, cpu_block, lean_linear, padding, reference, sdpa
from .block import BlockLayers, MergingLayers
from .choosing import Map, choose
from .tracing import is_traced
from .triton import launch as triton

__all__ = ['KERNELS', 'BlockLayers', 'Map', 'MergingLayers', 'fast_block', 'fast_merging', 'fastest']

KERNELS = {
    'reference': reference.window_attention,
    'sdpa': sdpa.window_attention,
    'cpu': cpu.window_attention,
    'triton': triton.window_attention,
    'padding': padding.window_attention,  # to be compared with
}


def fastest(given: Map, dropout: float) -> str:
    """Names the kernel that ``kernel='auto'`` takes, and logs it once.

    On a CUDA device 'sdpa' and 'triton' are checked and timed when they are first needed: see `choosing`.
    """
    if is_traced():
        # An exporter rewrites fused attention, and the strides of its result with it, on which later views rest.
        return 'sdpa' if torch.compiler.is_dynamo_compiling() else 'reference'
    device = given.qkv.device.type
    if device == 'cuda' and not dropout:
        names = ['sdpa', 'triton'] if triton.refusal(given.qkv) is None else ['sdpa']
        return choose({name: KERNELS[name] for name in names}, given)
    kernel = 'cpu' if device == 'cpu' and not dropout else 'sdpa'
    _log_choice(kernel)
    return kernel


@cache
def _log_choice(kernel: str) -> None:
    logging.getLogger('swin_mm').info("kernel='auto' takes %r", kernel)


def fast_block(layers: BlockLayers | None, x: Tensor) -> Tensor | None:
    """Computes a block on the map ``x`` ``(B, H, W, C)`` in the fast form that serves it; None if none does."""
    if layers is None:
        return None
    if cpu_block.can_fuse(layers, x):
        return cpu_block.fused_block(layers, x)
    return lean_linear.lean_block(layers, x) if torch.is_grad_enabled() else None


def fast_merging(layers: MergingLayers | None, x: Tensor) -> Tensor | None:
    """Computes patch merging on a map ``x`` ``(B, H, W, C)`` of even sides in a fast form; None if none serves it."""
    if layers is None:
        return None
    if cpu_block.can_fuse_merging(layers, x):
        return cpu_block.fused_merging(layers, x)
    return lean_linear.lean_merging(layers, x) if torch.is_grad_enabled() else None
