"""The Triton kernel against the reference in float64: under Triton's interpreter on the CPU, and on a GPU where one is.

Triton decides at its first import whether it interprets, so those cases run in a process of their own.
"""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch

from swin_mm.backbone.attention.window_v2 import WindowAttentionV2
from swin_mm.kernels import reference
from swin_mm.kernels.triton import launch as triton

SCALE = 0.3  # not head_dim ** -0.5, which a kernel might take by itself
# Error allowed, in units of the largest entry, in the map and in every gradient.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}


class Case(NamedTuple):
    """A map and its windows; ``programs`` is the most that a launch may start, so that each has several windows."""

    size: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]
    head_dim: int
    pad: bool = True
    batch: int = 2
    heads: int = 2
    dtype: torch.dtype = torch.float32
    programs: int = 4

    def __str__(self) -> str:
        fields = (self.size, self.window, self.shift, self.head_dim, str(self.dtype).removeprefix('torch.'))
        return '-'.join('x'.join(map(str, x)) if isinstance(x, tuple) else str(x) for x in fields)


CASES = [
    Case((2, 3), (7, 7), (3, 3), 32),
    Case((9, 10), (7, 7), (3, 3), 32),
    Case((9, 10), (7, 7), (0, 0), 32, pad=False),
    Case((9, 10), (7, 7), (3, 3), 32, programs=1000),
    Case((14, 7), (7, 7), (3, 3), 64, batch=1, heads=1),
    Case((9, 10), (8, 8), (4, 4), 32, pad=False, heads=1),
    Case((8, 16), (8, 8), (0, 0), 16, heads=1),
    Case((5, 13), (3, 5), (1, 2), 16, heads=3),
    Case((5, 6), (3, 5), (2, 0), 64),
    Case((3, 4), (1, 1), (0, 0), 16),
    Case((13, 10), (12, 12), (6, 6), 32, batch=1, heads=1),
    Case((12, 11), (12, 12), (0, 0), 32, batch=1, heads=1),
    Case((16, 20), (16, 16), (8, 8), 16, batch=1, heads=1, dtype=torch.float16),
    Case((3, 16), (6, 11), (3, 5), 32, pad=False, heads=1, programs=9, dtype=torch.bfloat16),
    Case((9, 10), (7, 7), (3, 3), 32, heads=1, dtype=torch.bfloat16),
    Case((9, 10), (7, 7), (3, 3), 64, heads=1, dtype=torch.float16),
    Case((5, 13), (3, 5), (1, 2), 16, pad=False, dtype=torch.bfloat16),
]


def make_inputs(case: Case, device: str = 'cpu') -> list[torch.Tensor | None]:
    """``qkv``, ``bias`` and ``pad`` as autocast hands them over: parameters in float32 whatever the tokens are."""
    torch.manual_seed(0)
    N = case.window[0] * case.window[1]
    vectors = (3, case.heads, case.head_dim)
    shapes = [(case.batch, *case.size, *vectors), (case.heads, N, N), vectors]
    qkv, bias, pad = (torch.randn(shape, device=device) for shape in shapes)
    inputs = [qkv.to(case.dtype), bias, pad if case.pad else None]
    return [x if x is None else x.requires_grad_() for x in inputs]


def run(kernel: Callable, inputs: list, case: Case) -> list[torch.Tensor]:
    """The map, and the gradients of a sum that tells its entries apart."""
    out = kernel(*inputs, case.window, case.shift, SCALE)
    ramp = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=out.device).view_as(out)
    wrt = [x for x in inputs if x is not None]
    gradients = torch.autograd.grad((out.double() * ramp).sum(), wrt, allow_unused=True)
    # On a map without padding tokens the reference does not use `pad`: its gradient is zero.
    return [out.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip(wrt, gradients, strict=True))]


def errors(case: Case, device: str = 'cpu') -> list[float]:
    """Of the map and the gradients of qkv, bias and pad, in units of the largest entry."""
    inputs = make_inputs(case, device)
    with mock.patch.multiple(triton, PROGRAMS=case.programs, PARTIALS=case.programs):
        got = run(triton.window_attention, inputs, case)
    exact = [x if x is None else x.detach().double().requires_grad_() for x in inputs]
    want = run(reference.window_attention, exact, case)
    assert [x.dtype for x in got] == [case.dtype, *(x.dtype for x in inputs if x is not None)]
    assert [x.shape for x in got] == [x.shape for x in want]
    pairs = zip(got, want, strict=True)
    return [float((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs]


def largest_difference_of_two_runs(case: Case) -> float:
    inputs = make_inputs(case)
    runs = [run(triton.window_attention, inputs, case) for _ in range(2)]
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(*runs, strict=True))


def difference_with_strides(case: Case) -> float:
    """Of a map whose channels do not lie together, and of a gradient with stride zero, from contiguous ones."""
    qkv, bias, pad = make_inputs(case)
    strided = qkv.detach().permute(5, 4, 3, 2, 1, 0).contiguous().permute(5, 4, 3, 2, 1, 0).requires_grad_()
    assert not strided.is_contiguous()
    outs = [triton.window_attention(x, bias, pad, case.window, case.shift, SCALE) for x in (qkv, strided)]
    (a,) = torch.autograd.grad(outs[0].sum(), qkv)
    (b,) = torch.autograd.grad(outs[1], strided, torch.ones_like(outs[1]))
    return float((a - b).abs().max() + (outs[0] - outs[1]).abs().max())


def check_operators(case: Case) -> dict[str, dict[str, str]]:
    """What ``opcheck`` says of the two operators: schema, fake tensors, autograd, tracing with dynamic sizes."""
    inputs = make_inputs(case)
    arguments = (*inputs, list(case.window), list(case.shift), SCALE)
    found = {'forward': torch.library.opcheck(torch.ops.swin_mm.window_attention.default, arguments)}
    plain = [x.detach() if isinstance(x, torch.Tensor) else x for x in arguments]
    dout = torch.randn_like(plain[0][:, :, :, 0].flatten(3))
    found['backward'] = torch.library.opcheck(torch.ops.swin_mm.window_attention_backward.default, (dout, *plain))
    return found


def cosine_errors(case: Case) -> list[float]:
    """Of V2's attention layer, map and every gradient, from the reference in float64."""
    found, dim = [], case.heads * case.head_dim
    for kernel in ('triton', 'reference'):
        torch.manual_seed(0)
        layer = WindowAttentionV2(dim, case.heads, case.window, case.shift, kernel=kernel)
        x = torch.randn(case.batch, *case.size, dim, requires_grad=True)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        if kernel == 'reference':
            layer, x = layer.double(), x.detach().double().requires_grad_()
        y = layer(x)
        ramp = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view_as(y)
        found.append([y, *torch.autograd.grad((y.double() * ramp).sum(), [x, *layer.parameters()])])
    return [float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True)]


def compiled_errors(case: Case) -> list[float]:
    """Of a compiled kernel from the plain one; raises where the graph breaks."""
    inputs = make_inputs(case)
    compiled = torch.compile(triton.window_attention, fullgraph=True, backend='aot_eager')
    pairs = zip(run(compiled, inputs, case), run(triton.window_attention, inputs, case), strict=True)
    return [float((a - b).abs().max()) for a, b in pairs]


def refused_shapes(case: Case) -> list[str]:
    """What it says to a bias, a pad and a shift that do not fit."""
    qkv, bias, pad = make_inputs(case)
    said = []
    for *tensors, shift in ((qkv, bias[:, 1:], pad, (0, 0)), (qkv, bias, pad[:, 1:], (0, 0)), (qkv, bias, pad, (9, 9))):
        with pytest.raises(ValueError, match='must be') as caught:
            triton.window_attention(*tensors, case.window, shift, SCALE)
        said.append(str(caught.value))
    return said


@pytest.fixture(scope='module')
def interpreter() -> Iterator[Callable]:
    """Calls a function of this file in a process where Triton interprets its kernels."""
    if not triton.INSTALLED:
        pytest.skip('needs triton')
    if version('triton') < '3.7' and np.lib.NumpyVersion(np.__version__) >= '2.4.0':
        pytest.skip('Triton before 3.7 interprets no loop on NumPy 2.4: its index is an array of one, refused since')
    with (
        mock.patch.dict('os.environ', TRITON_INTERPRET='1', OMP_NUM_THREADS='1'),
        ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process,
    ):
        yield lambda function, *arguments: process.submit(function, *arguments).result()


@pytest.mark.parametrize('case', CASES, ids=str)
def test_equals_reference(interpreter, case):
    found = interpreter(errors, case)
    assert len(found) == 3 + case.pad
    assert max(found) <= TOLERANCE[case.dtype], found


@pytest.mark.parametrize(('size', 'shift'), [((9, 10), (4, 4)), ((3, 5), (4, 4)), ((8, 16), (0, 0))])
def test_cosine_attention_equals_reference(interpreter, size, shift):
    """Also where keys of padding, which are zero, are attended to."""
    found = interpreter(cosine_errors, Case(size, (8, 8), shift, 16, batch=1))
    assert max(found) <= TOLERANCE[torch.float32], found


def test_gradients_are_the_same_in_every_run(interpreter):
    assert interpreter(largest_difference_of_two_runs, CASES[1]) == 0


def test_strides_do_not_matter(interpreter):
    assert interpreter(difference_with_strides, CASES[7]) == 0


def test_operators_keep_the_rules_of_torch_library(interpreter):
    found = interpreter(check_operators, Case((2, 3), (3, 5), (1, 2), 16, batch=1, heads=1))
    for checks in found.values():
        assert set(checks.values()) == {'SUCCESS'}, found
        assert len(checks) == 4


@pytest.mark.parametrize('case', [CASES[0], CASES[-1]], ids=str)
def test_compiles_into_one_graph(interpreter, case):
    assert interpreter(compiled_errors, case) == [0.0] * (3 + case.pad)


def test_refuses_shapes_that_do_not_fit(interpreter):
    """Kernels read wherever shapes say: a wrong one would read another tensor's memory."""
    bias, pad, shift = interpreter(refused_shapes, CASES[7])
    assert bias.startswith('bias must be (3, 15, 15)')
    assert pad.startswith('pad must be (3, 3, 16)')
    assert shift.startswith('shift must be in [0, window)')


def test_refuses_what_it_does_not_do():
    case = Case((7, 7), (7, 7), (0, 0), 32)
    inputs = make_inputs(case)
    with pytest.raises(ValueError, match=r"no dropout, got dropout=0\.1: choose 'sdpa'"):
        triton.window_attention(*inputs, case.window, case.shift, SCALE, 0.1)
    with pytest.raises(ValueError, match=r'head_dim must be one of \(16, 32, 64\) for triton, got 24'):
        triton.window_attention(*make_inputs(case._replace(head_dim=24)), case.window, case.shift, SCALE)
    with pytest.raises(ValueError, match=r'qkv must be .* got torch.float64'):
        triton.window_attention(inputs[0].double(), *inputs[1:], case.window, case.shift, SCALE)


def test_refuses_machines_it_cannot_run_on(monkeypatch):
    monkeypatch.setattr(triton, 'INTERPRETED', False)
    case = Case((7, 7), (7, 7), (0, 0), 32)
    inputs = make_inputs(case)
    with pytest.raises(RuntimeError, match='triton needs a CUDA device, got tokens on cpu'):
        triton.window_attention(*inputs, case.window, case.shift, SCALE)
    monkeypatch.setattr(triton, 'INSTALLED', False)
    with pytest.raises(RuntimeError, match='triton is not installed'):
        triton.window_attention(*inputs, case.window, case.shift, SCALE)


def test_the_package_imports_without_triton():
    code = 'import sys; sys.modules["triton"] = None; from swin_mm.kernels import triton; print(triton.INSTALLED)'
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ['False']


@pytest.mark.parametrize('windows', [0, 1, 7, 4096, 70_000])
@pytest.mark.parametrize('heads', [1, 3, 32])
@pytest.mark.parametrize('tiles', [1, 9])
def test_a_launch_is_bounded_and_takes_every_window(windows, heads, tiles):
    launch = mock.Mock(windows=windows, heads=heads)
    chunks = triton._Launch.chunks(launch, tiles, 512)
    assert 1 <= chunks <= max(1, windows)
    assert chunks * heads * tiles <= max(512, heads * tiles)
    shares = [len(range(chunk, windows, chunks)) for chunk in range(chunks)]
    assert sum(shares) == windows
    assert max(shares) - min(shares) <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or not triton.INSTALLED, reason='needs a CUDA device and triton')
class TestOnGPU:
    """Real sizes: the first stage of Swin-T and Swin-B at 800x1333; and more windows than a grid's y may have."""

    @pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
    @pytest.mark.parametrize('shifted', [True, False])
    @pytest.mark.parametrize(('window', 'heads'), [(7, 3), (8, 3), (12, 4), (16, 4)])
    def test_equals_reference(self, dtype, shifted, window, heads):
        shift = (window // 2, window // 2) if shifted else (0, 0)
        case = Case((200, 334), (window, window), shift, 32, heads=heads, dtype=dtype, programs=triton.PARTIALS)
        found = errors(case, 'cuda')
        assert max(found) <= TOLERANCE[dtype], found

    @pytest.mark.parametrize('head_dim', [16, 64])
    @pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
    def test_other_head_dims(self, dtype, head_dim):
        case = Case((50, 83), (7, 7), (3, 3), head_dim, dtype=dtype, programs=triton.PARTIALS)
        found = errors(case, 'cuda')
        assert max(found) <= TOLERANCE[dtype], found

    def test_more_windows_than_65535(self):
        found = errors(Case((300, 300), (1, 1), (0, 0), 16, programs=triton.PARTIALS), 'cuda')
        assert max(found) <= TOLERANCE[torch.float32], found

    def test_gradients_are_the_same_in_every_run(self):
        case = Case((200, 334), (7, 7), (3, 3), 32, heads=3, dtype=torch.bfloat16)
        inputs = make_inputs(case, 'cuda')
        runs = [run(triton.window_attention, inputs, case) for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))

    def test_refuses_a_bias_elsewhere(self):
        case = Case((7, 7), (7, 7), (0, 0), 32)
        qkv, bias, pad = make_inputs(case, 'cuda')
        with pytest.raises(ValueError, match=r'bias must be \(2, 49, 49\) on cuda:0, got .* on cpu'):
            triton.window_attention(qkv, bias.cpu(), pad, case.window, case.shift, SCALE)
