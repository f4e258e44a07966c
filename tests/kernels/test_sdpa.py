"""What is particular to the fused kernel: its limits, how it is handed the bias, and when it is taken."""

import logging

import pytest
import torch
import torch.nn.functional as F

from swin_mm import kernels
from swin_mm.backbone.attention.window import WindowAttention
from swin_mm.kernels import reference, sdpa

WINDOW, SCALE = (3, 5), 0.4


def make_inputs(dtype=torch.float64):
    shapes = [(3, 8, 13, 3, 2, 4), (2, 15, 15), (3, 2, 4)]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def run(kernel, inputs, shift):
    out = kernel(*inputs, WINDOW, shift, SCALE)
    ramp = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out, *torch.autograd.grad((out * ramp).sum(), inputs)]


@pytest.fixture
def calls(monkeypatch):
    """What ``scaled_dot_product_attention`` is called with: queries and bias."""
    seen, fused = [], F.scaled_dot_product_attention

    def note(q, k, v, bias, *args, **kwargs):
        seen.append((q, bias))
        return fused(q, k, v, bias, *args, **kwargs)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', note)
    return seen


@pytest.mark.parametrize(('shift', 'total'), [((0, 0), 3 * 9), ((1, 2), 9 * 2)], ids=str)
@pytest.mark.parametrize('limit', [1, 7, 26, 27])
def test_more_windows_than_a_cuda_grid_holds_are_split(shift, total, limit, calls, monkeypatch):
    """Unshifted windows are the batch, shifted ones the heads: 3 images with 9 windows, or 9 windows with 2 heads."""
    monkeypatch.setattr(sdpa, 'LIMIT', limit)
    inputs = make_inputs()
    got, want = run(sdpa.window_attention, inputs, shift), run(reference.window_attention, inputs, shift)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    dim = 1 if shift != (0, 0) else 0
    parts = [q.shape[dim] for q, _ in calls]
    assert sum(parts) == total
    assert len(parts) == -(-total // limit)
    assert max(parts) <= limit


@pytest.mark.parametrize('window', [(3, 5), (7, 7), (4, 4)], ids=str)
@pytest.mark.parametrize('shift', [(0, 0), (1, 2)], ids=str)
def test_bias_comes_as_the_efficient_kernel_reads_it(shift, window, calls):
    """In the dtype of the queries, once for the whole batch, and with aligned rows, so that it is not copied."""
    N = window[0] * window[1]
    qkv, bias = torch.randn(3, 8, 13, 3, 2, 4).bfloat16(), torch.randn(N, N, 2).permute(2, 0, 1)
    sdpa.window_attention(qkv, bias, None, window, shift, SCALE)
    ((q, given),) = calls
    assert given.dtype == q.dtype == torch.bfloat16
    assert given.shape == (1, q.shape[1], N, N)
    *strides, last = given.stride()
    assert last == 1
    assert all(stride % 8 == 0 for stride in strides)


def test_auto_says_once_what_it_takes(caplog):
    """The fused kernel, and not that for the CPU, where attention weights are dropped."""
    kernels._log_choice.cache_clear()
    caplog.set_level(logging.INFO, 'swin_mm')
    x = torch.randn(1, 9, 9, 8)
    plain, dropping = WindowAttention(8, 2, (7, 7)), WindowAttention(8, 2, (7, 7), attn_drop=0.5)
    for module in (plain, dropping.eval(), plain, dropping.train(), dropping, WindowAttention(8, 2, (7, 7))):
        module(x)
    assert caplog.messages == ["kernel='auto' takes 'cpu'", "kernel='auto' takes 'sdpa'"]
