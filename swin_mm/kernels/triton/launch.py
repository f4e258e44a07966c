"""Window attention in one Triton kernel: shift, padding, windows, scores, bias, mask, softmax and values.

It reads queries, keys and values from the map and writes results to it: no rolled, padded or partitioned map exists.
The backward kernels compute the scores again, so nothing of N x N is kept. It runs on CUDA devices, and on any device
under Triton's interpreter (``TRITON_INTERPRET=1`` before Triton is first imported).
"""

from typing import Any

import torch
from torch import Tensor

from ..grid import WindowGrid
from . import INSTALLED, INTERPRETED

HEAD_DIMS = (16, 32, 64)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)

# Programs in a launch. They fill the largest GPU several times over. They are few enough that each reads a tile of bias
# for several windows, and that partial gradients are small beside the maps. They are constant, so that sums have the
# same order on every GPU.
PROGRAMS = 4096
PARTIALS = 512


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

    Scores and softmax are in float32. Gradients are the same in every run. Raises what ``refusal`` returns.
    """
    if (error := refusal(qkv, dropout)) is not None:
        raise error
    return _attend(qkv, bias, pad, list(window), list(shift), scale)


def refusal(qkv: Tensor, dropout: float = 0.0) -> ValueError | RuntimeError | None:
    """Says why this kernel does not serve these arguments on this machine; None if it does."""
    if dropout > 0:
        return ValueError(f"the triton kernel has no dropout, got dropout={dropout}: choose 'sdpa' or 'reference'")
    if qkv.shape[-1] not in HEAD_DIMS:
        return ValueError(f"head_dim must be one of {HEAD_DIMS} for triton, got {qkv.shape[-1]}: choose 'sdpa'")
    if qkv.dtype not in DTYPES:
        return ValueError(f"qkv must be float16, bfloat16 or float32 for triton, got {qkv.dtype}: choose 'sdpa'")
    if not INSTALLED:
        return RuntimeError("triton is not installed: pip install triton, or choose 'sdpa'")
    if INTERPRETED:
        return None
    if not qkv.is_cuda:
        return RuntimeError(f"triton needs a CUDA device, got tokens on {qkv.device}: choose 'sdpa' or 'reference'")
    if torch.version.cuda and torch.cuda.get_device_properties(qkv.device).major < 8:
        return RuntimeError(f"triton needs compute capability 8.0 or newer, {qkv.device} is older: choose 'sdpa'")
    return None


class _Launch:
    """Starts the kernels on one map."""

    def __init__(
        self, qkv: Tensor, bias: Tensor, pad: Tensor | None, window: list[int], shift: list[int], scale: float
    ):
        B, H, W, _, self.heads, self.head_dim = qkv.shape
        grid = WindowGrid((H, W), (window[0], window[1]), (shift[0], shift[1]))
        self.windows, self.N = B * grid.num_windows, window[0] * window[1]
        # The kernels read wherever these shapes say.
        shapes: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
            'qkv': (qkv, (B, H, W, 3, self.heads, self.head_dim)),
            'bias': (bias, (self.heads, self.N, self.N)),
            'pad': (pad, (3, self.heads, self.head_dim)),
        }
        for name, (x, shape) in shapes.items():
            if x is not None and (x.shape != shape or x.device != qkv.device):
                raise ValueError(f'{name} must be {shape} on {qkv.device}, got {tuple(x.shape)} on {x.device}')
        self.tensors = [x if x is None else x.contiguous() for x in (qkv, bias, pad)]
        self.sizes, self.scale = (H, W, self.windows), scale
        block, self.options = _tiling(self.N, self.head_dim, qkv.dtype)
        self.constants = (*window, *shift, self.head_dim, block)
        self.tiles = -(-self.N // block)

    def chunks(self, tiles: int, limit: int) -> int:
        """Says into how many equal parts to cut the windows, when each part takes ``heads * tiles`` programs."""
        most = max(1, limit // (self.heads * tiles))
        return max(1, -(-self.windows // max(1, -(-self.windows // most))))

    def run(self, kernel: Any, tensors: list[Tensor], tiles: int, limit: int) -> None:
        """Starts at most about ``limit`` programs of a kernel, ``tensors`` being its first arguments."""
        chunks = self.chunks(tiles, limit)
        arguments = (*tensors, *self.tensors, *self.sizes, chunks, self.heads, self.scale, *self.constants)
        with torch.cuda.device_of(tensors[0]):
            kernel[(chunks * tiles * self.heads,)](*arguments, **self.options)


def _tiling(N: int, head_dim: int, dtype: torch.dtype) -> tuple[int, dict[str, int]]:
    """Slots of a tile; warps of a program and stages of its software pipeline.

    Chosen by the compiler's report for compute capability 9.0: the largest tiles that hardly spill registers.
    """
    exact = dtype == torch.float32  # no tensor cores: operands and sums are all in registers
    largest = 32 if exact and head_dim == 64 else 64
    block = max(16, 1 << (N - 1).bit_length())
    if block > largest:
        block = largest if N % largest == 0 else 32  # of 144, five tiles of 32 waste less than three of 64
    warps = block // 16 * (2 if exact or head_dim == 64 else 1)
    return block, dict(num_warps=warps, num_stages=1 if exact else 2)


@torch.library.custom_op(
    'swin_mm::window_attention',
    mutates_args=(),
    schema='(Tensor qkv, Tensor bias, Tensor? pad, int[] window, int[] shift, float scale) -> Tensor',
)
def _attend(qkv: Tensor, bias: Tensor, pad: Tensor | None, window: list[int], shift: list[int], scale: float) -> Tensor:
    from . import one_tile

    launch = _Launch(qkv, bias, pad, window, shift, scale)
    out = _map_like(qkv)
    launch.run(one_tile.forward, [out], launch.tiles, PROGRAMS)
    return out


@torch.library.custom_op(
    'swin_mm::window_attention_backward',
    mutates_args=(),
    schema='(Tensor dout, Tensor qkv, Tensor bias, Tensor? pad, int[] window, int[] shift, float scale)'
    ' -> (Tensor, Tensor, Tensor)',
)
def _gradients(
    dout: Tensor, qkv: Tensor, bias: Tensor, pad: Tensor | None, window: list[int], shift: list[int], scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, bias and pad, the last one empty without pad."""
    from . import many_tiles, one_tile

    launch = _Launch(qkv, bias, pad, window, shift, scale)
    dout, (dqkv, _, dpad) = dout.contiguous(), _gradients_like(dout, qkv, bias, pad)
    heads, head_dim, N, tiles = launch.heads, launch.head_dim, launch.N, launch.tiles
    if tiles == 1:
        chunks = launch.chunks(1, PARTIALS)
        bias_parts = dout.new_empty(chunks, heads, N, N, dtype=torch.float32)
        pad_parts = dout.new_empty(chunks, heads, 2, head_dim, dtype=torch.float32)
        launch.run(one_tile.backward, [dqkv, bias_parts, pad_parts, dout], 1, PARTIALS)
    else:
        statistics = dout.new_empty(launch.windows, heads, 2, N, dtype=torch.float32)
        bias_parts = dout.new_empty(launch.chunks(tiles**2, PARTIALS), heads, N, N, dtype=torch.float32)
        pad_parts = dout.new_empty(launch.chunks(tiles, PROGRAMS) * tiles, heads, 2, head_dim, dtype=torch.float32)
        launch.run(many_tiles.backward_queries, [dqkv, statistics, dout], tiles, PROGRAMS)
        launch.run(many_tiles.backward_keys, [dqkv, pad_parts, statistics, dout], tiles, PROGRAMS)
        launch.run(many_tiles.backward_bias, [bias_parts, statistics, dout], tiles**2, PARTIALS)
    if pad is not None:  # nobody reads what the query of a padding token attends to
        dpad[0] = 0
        dpad[1:] = pad_parts.sum(0).transpose(0, 1)
    return dqkv, bias_parts.sum(0).to(bias.dtype), dpad


@_attend.register_fake
def _map_like(qkv: Tensor, *_) -> Tensor:
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[4] * qkv.shape[5])


@_gradients.register_fake
def _gradients_like(_: Tensor, qkv: Tensor, bias: Tensor, pad: Tensor | None, *__) -> tuple[Tensor, Tensor, Tensor]:
    dqkv, dbias, dpad = (qkv.new_empty(0) if x is None else x.new_empty(x.shape) for x in (qkv, bias, pad))
    return dqkv, dbias, dpad


def _save(ctx, inputs, output):
    *tensors, ctx.window, ctx.shift, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, dout):
    qkv, bias, pad = ctx.saved_tensors
    dqkv, dbias, dpad = _gradients(dout, qkv, bias, pad, ctx.window, ctx.shift, ctx.scale)
    return dqkv, dbias, None if pad is None else dpad, None, None, None


_attend.register_autograd(_backward, setup_context=_save)
