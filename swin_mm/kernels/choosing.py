"""Chooses a kernel at its first use on a device: one that is right on a small map, and fastest on the first real one.

No GPU was at hand when the kernels were written. So the machine that uses them decides: a kernel that does not compile,
raises, is wrong or is slower than another never serves a run.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from . import reference

Kernel = Callable[..., Tensor]
# Of value and gradients, in units of their largest entry, against the reference in float64.
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
WITH_TF32 = 1e-2  # ten bits in every factor
WARM_UP, ROUNDS = 2, 5


class Case(NamedTuple):
    """What a choice holds for. ``with_gradient``: the backward pass counts, too."""

    device: torch.device
    dtype: torch.dtype
    head_dim: int
    window: tuple[int, int]
    is_shifted: bool
    with_gradient: bool


class Choice(NamedTuple):
    """The ``kernel`` of a case, and for each candidate what was ``found``: its milliseconds, or why it is not taken."""

    kernel: str
    found: dict[str, str]

    def __str__(self) -> str:
        return f'{self.kernel} ({", ".join(f"{name}: {text}" for name, text in self.found.items())})'


class Map(NamedTuple):
    """The arguments of a kernel, see `swin_mm.kernels`."""

    qkv: Tensor
    bias: Tensor
    pad: Tensor | None
    window: tuple[int, int]
    shift: tuple[int, int]
    scale: float


CHOICES: dict[Case, Choice] = {}  # of this process


def choose(candidates: Mapping[str, Kernel], arguments: Map) -> str:
    """Names the candidate that serves ``arguments``: once for each `Case`, which is logged and kept in `CHOICES`.

    Gives 'reference' if no candidate is right. What it runs changes no gradient and no random number of the caller.
    """
    qkv, shift = arguments.qkv, arguments.shift
    with_gradient = torch.is_grad_enabled() and qkv.requires_grad
    case = Case(qkv.device, qkv.dtype, qkv.shape[-1], arguments.window, any(shift), with_gradient)
    if case not in CHOICES:
        if qkv.is_cuda and torch.cuda.is_current_stream_capturing():
            return next(iter(candidates))  # nothing can be timed while a graph is recorded
        CHOICES[case] = choice = _choose(candidates, case, arguments)
        logging.getLogger('swin_mm').info("kernel='auto' on %s: %s", _words(case), choice)
    return CHOICES[case].kernel


def lines() -> list[str]:
    """Gives a line for each choice that was made."""
    return [f'{_words(case)}: {choice}' for case, choice in CHOICES.items()]


def _choose(candidates: Mapping[str, Kernel], case: Case, arguments: Map) -> Choice:
    found: dict[str, str] = {}
    seconds: dict[str, float] = {}
    small, with_gradient = _small_map(arguments), case.with_gradient
    for name, kernel in candidates.items():
        try:
            error = _error(kernel, small, arguments, with_gradient)
            if not error <= _limit(arguments):  # a NaN is not below it either
                found[name] = f'wrong by {error:.0e}'
                continue
            seconds[name] = 0.0 if len(candidates) == 1 else _seconds(kernel, arguments, with_gradient)
            found[name] = f'{1e3 * seconds[name]:.2f} ms' if seconds[name] else 'right'
        except Exception as error:  # whatever a compiler or a driver raises, also that memory ran out
            found[name] = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
    return Choice(min(seconds, key=seconds.__getitem__, default='reference'), found)


def _small_map(arguments: Map) -> Map:
    """A random map in float64 on the CPU, of two windows and a piece in each direction, so that it is padded."""
    random = torch.Generator().manual_seed(0)
    qkv, bias, pad, window, shift, scale = arguments
    heads = min(2, qkv.shape[-2])
    size = [2 * side + 1 for side in window]
    shapes = (2, *size, 3, heads, qkv.shape[-1]), (heads, *bias.shape[1:]), (3, heads, qkv.shape[-1])
    # Rounded to what the kernel is given, so that this is no error of the kernel.
    like = (qkv, bias, qkv if pad is None else pad)
    drawn = [torch.randn(shape, generator=random).to(x.dtype).double() for shape, x in zip(shapes, like, strict=True)]
    return Map(drawn[0], drawn[1], None if pad is None else drawn[2], window, shift, scale)


def _error(kernel: Kernel, small: Map, like: Map, with_gradient: bool) -> float:
    """The largest error in value and gradients on ``small``, given to the kernel in devices and dtypes of ``like``."""
    wanted = _run(reference.window_attention, small, with_gradient)
    pad = None if small.pad is None or like.pad is None else small.pad.to(like.pad)
    got = _run(
        kernel, small._replace(qkv=small.qkv.to(like.qkv), bias=small.bias.to(like.bias), pad=pad), with_gradient
    )
    errors = [(a.double().cpu() - b).abs().max() / b.abs().max() for a, b in zip(got, wanted, strict=True)]
    return float(torch.stack(errors).max())


def _limit(given: Map) -> float:
    if given.qkv.dtype == torch.float32 and given.qkv.is_cuda and torch.backends.cuda.matmul.allow_tf32:
        return WITH_TF32
    return max(LIMITS[x.dtype] for x in given[:3] if x is not None)  # the gradient of each is in its own dtype


def _run(kernel: Kernel, given: Map, with_gradient: bool) -> list[Tensor]:
    """The map of a kernel, and if asked the gradients of a sum that weighs each entry differently."""
    tensors = [x if x is None else x.detach().requires_grad_(with_gradient) for x in given[:3]]
    with torch.set_grad_enabled(with_gradient):
        out = kernel(*tensors, given.window, given.shift, given.scale)
    if not with_gradient:
        return [out]
    ramp = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device='cpu').view_as(out).to(out)
    return [out.detach(), *torch.autograd.grad(out, [x for x in tensors if x is not None], ramp)]


def _seconds(kernel: Kernel, arguments: Map, with_gradient: bool) -> float:
    """The least time of a call on the map itself; with the way back, if gradients are wanted."""
    device, times = arguments.qkv.device, []
    for _ in range(WARM_UP + ROUNDS):
        _wait(device)
        start = time.perf_counter()
        _run(kernel, arguments, with_gradient)
        _wait(device)
        times.append(time.perf_counter() - start)
    return min(times[WARM_UP:])


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def _words(case: Case) -> str:
    window = 'x'.join(map(str, case.window))
    shifted, gradient = 'shifted ' if case.is_shifted else '', ', with gradient' if case.with_gradient else ''
    dtype = str(case.dtype).removeprefix('torch.')
    return f'{case.device}, {dtype}, {shifted}windows {window}, heads of {case.head_dim}{gradient}'
