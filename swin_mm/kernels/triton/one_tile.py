"""Triton kernels: the attended map, and every gradient where one tile holds a window. Imported at the first launch.

A program takes one head, one tile of queries or keys, and every ``chunks``-th window, and reads its tokens from the map
where they lie. A slot of a window holds a token, a padding token, or nothing (tiles are powers of two). ``h``, ``w``,
``dy``, ``dx`` are the window and shift of ``WindowGrid``, ``N = h * w``, ``D`` the channels of a head, ``BLOCK`` the
slots of a tile. Scores are in units of log 2, so that ``exp2`` serves.

Where a window takes several tiles, its gradients are in ``many_tiles.py``.

Programs that differ only in the head are neighbours: together they read whole rows of the map. Nothing is added up
across programs: the gradients of bias and padding leave as one float32 partial a program, so runs are reproducible.
"""

import triton
import triton.language as tl
from triton.language import constexpr

from ..grid import MASKED as MASKED_SCORE
from . import INTERPRETED

LOG2E = constexpr(1.4426950408889634)
MASKED = constexpr(MASKED_SCORE * 1.4426950408889634)
MINUS_INFINITY = constexpr(float('-inf'))
UPCAST = constexpr(INTERPRETED)  # the interpreter's dot takes the bits of a bfloat16 for an integer

# Maps come in many sizes: a number that happens to be 1, or divisible by 16, must not mean another compilation.
kernel = triton.jit(do_not_specialize=['H', 'W', 'windows', 'chunks', 'heads'])


@triton.jit
def tokens(window, slots, grid):
    """For each slot of a window: index of its token into (B, H, W), whether there is one; whether the window pads."""
    H, W, h, w, dy, dx = grid
    rows, columns = tl.cdiv(H, h), tl.cdiv(W, w)
    top = window // columns % rows * h + dy
    left = window % columns * w + dx
    y = top + slots // w
    x = left + slots % w
    y = tl.where(y < rows * h, y, y - rows * h)  # the shift wraps around the padded map
    x = tl.where(x < columns * w, x, x - columns * w)
    there = (slots < h * w) & (y < H) & (x < W)
    token = (window // (rows * columns) * H + y) * W + x
    return token.to(tl.int64), there, (top + h > H) | (left + w > W)


@triton.jit
def regions(window, slots, grid):
    """Number of the region of each slot: in the last row and column of windows, some came from the opposite border."""
    H, W, h, w, dy, dx = grid
    rows, columns = tl.cdiv(H, h), tl.cdiv(W, w)
    below = (slots // w >= h - dy) & (window // columns % rows == rows - 1)
    right = (slots % w >= w - dx) & (window % columns == columns - 1)
    return 2 * below.to(tl.int32) + right.to(tl.int32)


@triton.jit
def read(x, row, token, there, D: constexpr):
    """(slots, D) from a map with ``row`` channels, zeros where there is no token."""
    places = x + token[:, None] * row + tl.arange(0, D)[None, :]
    return tl.load(places, mask=there[:, None], other=0.0)


@triton.jit
def read_qkv(qkv, pad, part: constexpr, head, heads, token, there, D: constexpr):
    """(slots, D): the queries, keys or values (part 0, 1, 2) of a head; those of padding where there is no token."""
    x = read(qkv + (part * heads + head) * D, 3 * heads * D, token, there, D)
    if pad is not None:
        padding = tl.load(pad + (part * heads + head) * D + tl.arange(0, D)).to(x.dtype)
        x = tl.where(there[:, None], x, padding[None, :])
    return x


@triton.jit
def write_qkv(dqkv, part: constexpr, head, heads, token, there, x, D: constexpr):
    places = dqkv + (part * heads + head) * D + token[:, None] * (3 * heads * D) + tl.arange(0, D)[None, :]
    tl.store(places, x.to(dqkv.dtype.element_ty), mask=there[:, None])


@triton.jit
def read_bias(bias, head, queries, keys, N: constexpr):
    """(queries, keys) in units of log 2: minus infinity where there is no key, finite for every query."""
    inside = (queries < N)[:, None] & (keys < N)[None, :]
    tile = tl.load(bias + head * N * N + queries[:, None] * N + keys[None, :], mask=inside, other=0.0)
    return tl.where((keys < N)[None, :], tile.to(tl.float32) * LOG2E, MINUS_INFINITY)


@triton.jit
def write_dbias(dbias, tile, queries, keys, N: constexpr):
    inside = (queries < N)[:, None] & (keys < N)[None, :]
    tl.store(dbias + queries[:, None] * N + keys[None, :], tile, mask=inside)


@triton.jit
def dot(a, b):
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision='ieee')


@triton.jit
def scores(q, k, bias, scale, window, queries, keys, grid):
    s = dot(q, tl.trans(k)) * (scale * LOG2E) + bias
    if grid[4] + grid[5] > 0:  # a shift
        other = regions(window, queries, grid)[:, None] != regions(window, keys, grid)[None, :]
        s += tl.where(other, MASKED, 0.0)
    return s


@kernel
def forward(
    out, qkv, bias, pad, H, W, windows, chunks, heads, scale,
    h: constexpr, w: constexpr, dy: constexpr, dx: constexpr, D: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """The attended map: softmax over tiles of keys, with a running maximum and sum."""
    N: constexpr = h * w
    TILES: constexpr = (N + BLOCK - 1) // BLOCK
    grid = (H, W, h, w, dy, dx)
    program = tl.program_id(0)
    head = program % heads
    slots = tl.arange(0, BLOCK)
    queries = program // heads % TILES * BLOCK + slots
    bias_tile = read_bias(bias, head, queries, slots, N)
    for window in range(program // (heads * TILES), windows, chunks):
        token, there, _ = tokens(window, queries, grid)
        q = read_qkv(qkv, pad, 0, head, heads, token, there, D)
        high = tl.full((BLOCK,), MINUS_INFINITY, tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        acc = tl.zeros((BLOCK, D), tl.float32)
        for first in range(0, N, BLOCK):
            keys = first + slots
            if TILES > 1:
                bias_tile = read_bias(bias, head, queries, keys, N)
            k_token, k_there, _ = tokens(window, keys, grid)
            k = read_qkv(qkv, pad, 1, head, heads, k_token, k_there, D)
            v = read_qkv(qkv, pad, 2, head, heads, k_token, k_there, D)
            s = scores(q, k, bias_tile, scale, window, queries, keys, grid)
            higher = tl.maximum(high, tl.max(s, 1))
            p = tl.exp2(s - higher[:, None])
            shrink = tl.exp2(high - higher)
            total = total * shrink + tl.sum(p, 1)
            acc = acc * shrink[:, None] + dot(p.to(v.dtype), v)
            high = higher
        places = out + head * D + token[:, None] * (heads * D) + tl.arange(0, D)[None, :]
        tl.store(places, (acc / total[:, None]).to(q.dtype), mask=there[:, None])


@kernel
def backward(
    dqkv, dbias, dpad, dout, qkv, bias, pad, H, W, windows, chunks, heads, scale,
    h: constexpr, w: constexpr, dy: constexpr, dx: constexpr, D: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Every gradient, where one tile holds a window."""
    N: constexpr = h * w
    grid = (H, W, h, w, dy, dx)
    program = tl.program_id(0)
    head = program % heads
    slots = tl.arange(0, BLOCK)
    bias_tile = read_bias(bias, head, slots, slots, N)
    dbias_tile = tl.zeros((BLOCK, BLOCK), tl.float32)
    dpad_k = tl.zeros((D,), tl.float32)
    dpad_v = tl.zeros((D,), tl.float32)
    for window in range(program // heads, windows, chunks):
        token, there, pads = tokens(window, slots, grid)
        q = read_qkv(qkv, pad, 0, head, heads, token, there, D)
        k = read_qkv(qkv, pad, 1, head, heads, token, there, D)
        v = read_qkv(qkv, pad, 2, head, heads, token, there, D)
        do = read(dout + head * D, heads * D, token, there, D)
        s = scores(q, k, bias_tile, scale, window, slots, slots, grid)
        p = tl.exp2(s - tl.max(s, 1)[:, None])
        p = p / tl.sum(p, 1)[:, None]
        dp = dot(do, tl.trans(v))
        ds = p * (dp - tl.sum(p * dp, 1)[:, None])
        dbias_tile += ds
        dk = dot(tl.trans(ds.to(q.dtype)), q) * scale
        dv = dot(tl.trans(p.to(q.dtype)), do)
        write_qkv(dqkv, 0, head, heads, token, there, dot(ds.to(q.dtype), k) * scale, D)
        write_qkv(dqkv, 1, head, heads, token, there, dk, D)
        write_qkv(dqkv, 2, head, heads, token, there, dv, D)
        if pads:
            dpad_k += tl.sum(tl.where(there[:, None], 0.0, dk), 0)
            dpad_v += tl.sum(tl.where(there[:, None], 0.0, dv), 0)
    write_dbias(dbias + program.to(tl.int64) * N * N, dbias_tile, slots, slots, N)
    tl.store(dpad + program * 2 * D + tl.arange(0, D), dpad_k)
    tl.store(dpad + (program * 2 + 1) * D + tl.arange(0, D), dpad_v)
