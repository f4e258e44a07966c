"""Triton kernels: gradients where a window takes several tiles; ``one_tile.py`` explains names and layouts.

Three kernels, each with its sum in registers: over keys for a query, over queries for a key, over windows for the bias.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from .one_tile import MINUS_INFINITY, dot, kernel, read, read_bias, read_qkv, scores, tokens, write_dbias, write_qkv


@triton.jit
def _score_gradients(q, k, v, do, bias, head, heads, scale, statistics, window, queries, keys, grid, N: constexpr):
    """Softmax weights of a tile, and the gradients of its scores, from the two numbers of each query."""
    numbers = statistics + (window * heads + head).to(tl.int64) * (2 * N) + queries
    total = tl.load(numbers, mask=queries < N, other=0.0)
    delta = tl.load(numbers + N, mask=queries < N, other=0.0)
    s = scores(q, k, read_bias(bias, head, queries, keys, N), scale, window, queries, keys, grid)
    p = tl.where((queries < N)[:, None], tl.exp2(s - total[:, None]), 0.0)
    return p, p * (dot(do, tl.trans(v)) - delta[:, None])


@kernel
def backward_queries(
    dqkv, statistics, dout, qkv, bias, pad, H, W, windows, chunks, heads, scale,
    h: constexpr, w: constexpr, dy: constexpr, dx: constexpr, D: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Gradients of a tile of queries; and ``statistics`` ``(windows, heads, 2, N)``, two numbers a query.

    They are log 2 of the sum that the softmax divides by, and the sum of the weights times their gradients.
    """
    N: constexpr = h * w
    TILES: constexpr = (N + BLOCK - 1) // BLOCK
    grid = (H, W, h, w, dy, dx)
    program = tl.program_id(0)
    head = program % heads
    slots = tl.arange(0, BLOCK)
    queries = program // heads % TILES * BLOCK + slots
    for window in range(program // (heads * TILES), windows, chunks):
        token, there, _ = tokens(window, queries, grid)
        q = read_qkv(qkv, pad, 0, head, heads, token, there, D)
        do = read(dout + head * D, heads * D, token, there, D)
        high = tl.full((BLOCK,), MINUS_INFINITY, tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        delta = tl.zeros((BLOCK,), tl.float32)
        for first in range(0, N, BLOCK):
            keys = first + slots
            k_token, k_there, _ = tokens(window, keys, grid)
            k = read_qkv(qkv, pad, 1, head, heads, k_token, k_there, D)
            v = read_qkv(qkv, pad, 2, head, heads, k_token, k_there, D)
            bias_tile = read_bias(bias, head, queries, keys, N)
            s = scores(q, k, bias_tile, scale, window, queries, keys, grid)
            higher = tl.maximum(high, tl.max(s, 1))
            p = tl.exp2(s - higher[:, None])
            shrink = tl.exp2(high - higher)
            total = total * shrink + tl.sum(p, 1)
            delta = delta * shrink + tl.sum(p * dot(do, tl.trans(v)), 1)
            high = higher
        delta = delta / total
        total = high + tl.log2(total)
        numbers = statistics + (window * heads + head).to(tl.int64) * (2 * N) + queries
        tl.store(numbers, total, mask=queries < N)
        tl.store(numbers + N, delta, mask=queries < N)

        dq = tl.zeros((BLOCK, D), tl.float32)
        for first in range(0, N, BLOCK):
            keys = first + slots
            k_token, k_there, _ = tokens(window, keys, grid)
            k = read_qkv(qkv, pad, 1, head, heads, k_token, k_there, D)
            v = read_qkv(qkv, pad, 2, head, heads, k_token, k_there, D)
            bias_tile = read_bias(bias, head, queries, keys, N)
            s = scores(q, k, bias_tile, scale, window, queries, keys, grid)
            p = tl.exp2(s - total[:, None])
            ds = p * (dot(do, tl.trans(v)) - delta[:, None])
            dq += dot(ds.to(k.dtype), k)
        write_qkv(dqkv, 0, head, heads, token, there, dq * scale, D)


@kernel
def backward_keys(
    dqkv, dpad, statistics, dout, qkv, bias, pad, H, W, windows, chunks, heads, scale,
    h: constexpr, w: constexpr, dy: constexpr, dx: constexpr, D: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Gradients of a tile of keys and their values, and of those of padding."""
    N: constexpr = h * w
    TILES: constexpr = (N + BLOCK - 1) // BLOCK
    grid = (H, W, h, w, dy, dx)
    program = tl.program_id(0)
    head = program % heads
    slots = tl.arange(0, BLOCK)
    keys = program // heads % TILES * BLOCK + slots
    dpad_k = tl.zeros((D,), tl.float32)
    dpad_v = tl.zeros((D,), tl.float32)
    for window in range(program // (heads * TILES), windows, chunks):
        token, there, pads = tokens(window, keys, grid)
        k = read_qkv(qkv, pad, 1, head, heads, token, there, D)
        v = read_qkv(qkv, pad, 2, head, heads, token, there, D)
        dk = tl.zeros((BLOCK, D), tl.float32)
        dv = tl.zeros((BLOCK, D), tl.float32)
        for first in range(0, N, BLOCK):
            queries = first + slots
            q_token, q_there, _ = tokens(window, queries, grid)
            q = read_qkv(qkv, pad, 0, head, heads, q_token, q_there, D)
            do = read(dout + head * D, heads * D, q_token, q_there, D)
            p, ds = _score_gradients(q, k, v, do, bias, head, heads, scale, statistics, window, queries, keys, grid, N)
            dk += dot(tl.trans(ds.to(q.dtype)), q)
            dv += dot(tl.trans(p.to(q.dtype)), do)
        dk *= scale
        write_qkv(dqkv, 1, head, heads, token, there, dk, D)
        write_qkv(dqkv, 2, head, heads, token, there, dv, D)
        if pads:
            dpad_k += tl.sum(tl.where(there[:, None], 0.0, dk), 0)
            dpad_v += tl.sum(tl.where(there[:, None], 0.0, dv), 0)
    tl.store(dpad + program * 2 * D + tl.arange(0, D), dpad_k)
    tl.store(dpad + (program * 2 + 1) * D + tl.arange(0, D), dpad_v)


@kernel
def backward_bias(
    dbias, statistics, dout, qkv, bias, pad, H, W, windows, chunks, heads, scale,
    h: constexpr, w: constexpr, dy: constexpr, dx: constexpr, D: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Gradient of a tile of the bias, over a chunk of the windows."""
    N: constexpr = h * w
    TILES: constexpr = (N + BLOCK - 1) // BLOCK
    grid = (H, W, h, w, dy, dx)
    program = tl.program_id(0)
    head = program % heads
    tile = program // heads % (TILES * TILES)
    chunk = program // (heads * TILES * TILES)
    queries = tile // TILES * BLOCK + tl.arange(0, BLOCK)
    keys = tile % TILES * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for window in range(chunk, windows, chunks):
        token, there, _ = tokens(window, queries, grid)
        k_token, k_there, _ = tokens(window, keys, grid)
        q = read_qkv(qkv, pad, 0, head, heads, token, there, D)
        k = read_qkv(qkv, pad, 1, head, heads, k_token, k_there, D)
        v = read_qkv(qkv, pad, 2, head, heads, k_token, k_there, D)
        do = read(dout + head * D, heads * D, token, there, D)
        _, ds = _score_gradients(q, k, v, do, bias, head, heads, scale, statistics, window, queries, keys, grid, N)
        total += ds
    write_dbias(dbias + (chunk * heads + head).to(tl.int64) * N * N, total, queries, keys, N)
