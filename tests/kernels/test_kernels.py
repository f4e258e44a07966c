"""Every kernel against loops, against the reference, and against what any window attention must do."""

import itertools

import brute_force
import pytest
import torch

from swin_mm.kernels import KERNELS

WINDOWS = [(7, 7), (8, 8), (12, 12), (4, 6)]
SCALE = 0.4  # not head_dim ** -0.5, which PyTorch would take by itself
# Error allowed in values and in gradients, in units of the largest entry, against the reference in float64.
TOLERANCE = {
    torch.float64: (1e-12, 1e-12),
    torch.float32: (1e-5, 1e-5),
    torch.bfloat16: (2e-2, 5e-2),
    torch.float16: (3e-3, 6e-3),
}


def make_inputs(size, window, dtype=torch.float64, batch=2, heads=2, head_dim=4, pad=True):
    """``qkv``, ``bias``, ``pad`` of size one, with gradients; ``pad`` is None on request."""
    N = window[0] * window[1]
    shapes = [(batch, *size, 3, heads, head_dim), (heads, N, N), (3, heads, head_dim)]
    tensors = [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]
    return tensors if pad else [*tensors[:2], None]


EVERYWHERE = ['reference', 'sdpa', 'cpu', 'padding']  # any shape and dtype; test_triton.py has the other


def run(kernel, inputs, window, shift):
    """The map, and the gradients of a sum that tells its entries apart, for the inputs that want one."""
    out = kernel(*inputs, window, shift, SCALE)
    ramp = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    wrt = [x for x in inputs if x is not None and x.requires_grad]
    # On a map without padding tokens, `pad` is not used: its gradient is zero, whichever way autograd says it.
    gradients = torch.autograd.grad((out.double() * ramp).sum(), wrt, allow_unused=True)
    return [out, *(torch.zeros_like(x) if g is None else g for x, g in zip(wrt, gradients, strict=True))]


def error(got, want):
    assert got.shape == want.shape
    got, want = got.detach().double(), want.detach()
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-3))


def shifts_of(window):
    return [(0, 0), (window[0] // 2, window[1] // 2)]


@pytest.mark.parametrize('kernel', EVERYWHERE)
@pytest.mark.parametrize('pad', [True, False])
@pytest.mark.parametrize(
    ('size', 'window', 'shift'),
    [
        ((12, 9), (7, 7), (3, 3)),
        ((2, 3), (7, 7), (3, 3)),
        ((5, 13), (4, 6), (2, 3)),
        ((5, 13), (4, 6), (0, 0)),
        ((5, 4), (3, 2), (1, 0)),
        ((8, 12), (4, 6), (2, 3)),
    ],
)
def test_kernel_equals_loops_over_tokens(kernel, size, window, shift, pad):
    inputs = make_inputs(size, window, batch=1, heads=1 if window == (7, 7) else 2, pad=pad)
    got = run(KERNELS[kernel], inputs, window, shift)
    want = run(brute_force.attention, inputs, window, shift)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('kernel', EVERYWHERE)
@pytest.mark.parametrize('window', WINDOWS, ids=str)
def test_kernel_equals_reference(kernel, window, dtype):
    """In value and gradients; maps smaller than a window, odd, multiples; shift, pad, a bias that learns or not."""
    if kernel == 'reference' and dtype == torch.float64:
        pytest.skip('the reference in float64 is what the others are compared with')
    sizes = [(window[0] - 3, window[1] - 2), (window[0] + 6, window[1] + 4), (2 * window[0], window[1])]
    for size, shift, pad, bias_learns in itertools.product(sizes, shifts_of(window), (True, False), (True, False)):
        inputs = make_inputs(size, window, dtype, pad=pad)
        inputs[1].requires_grad_(bias_learns)
        exact = [None if x is None else x.detach().double().requires_grad_(x.requires_grad) for x in inputs]
        got = run(KERNELS[kernel], inputs, window, shift)
        want = run(KERNELS['reference'], exact, window, shift)
        errors = [error(a, b) for a, b in zip(got, want, strict=True)]
        case = f'size={size} {shift=} {pad=} {bias_learns=} {errors=}'
        assert all(x.dtype == dtype for x in got), case
        assert errors[0] <= TOLERANCE[dtype][0], case
        assert max(errors[1:]) <= TOLERANCE[dtype][1], case


@pytest.mark.parametrize('kernel', EVERYWHERE)
def test_bias_in_float32_serves_tokens_in_bfloat16(kernel):
    """What autocast hands over: parameters stay in float32, tokens do not."""
    qkv, bias, pad = make_inputs((9, 10), (7, 7), torch.float32)
    tokens = qkv.detach().bfloat16().requires_grad_()
    got = run(KERNELS[kernel], [tokens, bias, pad], (7, 7), (3, 3))
    exact = [x.detach().double().requires_grad_() for x in (tokens, bias, pad)]
    want = run(KERNELS['reference'], exact, (7, 7), (3, 3))
    assert [x.dtype for x in got] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert max(error(a, b) for a, b in zip(got, want, strict=True)) <= TOLERANCE[torch.bfloat16][1]


@pytest.mark.parametrize('kernel', EVERYWHERE)
def test_strides_do_not_matter(kernel):
    qkv, bias, pad = make_inputs((9, 10), (7, 7))
    strided = qkv.detach().permute(5, 4, 3, 2, 1, 0).contiguous().permute(5, 4, 3, 2, 1, 0)
    assert not strided.is_contiguous()
    got = KERNELS[kernel](strided, bias, pad, (7, 7), (3, 3), SCALE)
    torch.testing.assert_close(got, KERNELS[kernel](qkv, bias, pad, (7, 7), (3, 3), SCALE), rtol=0, atol=1e-14)


@pytest.mark.parametrize('kernel', EVERYWHERE)
def test_tokens_read_nothing_across_the_seam(kernel):
    """Gradient isolation: timm's map leaks across opposite borders at this size (it rolls before it pads)."""
    size, window, shift = (12, 9), (7, 7), (3, 3)
    qkv, bias, pad = make_inputs(size, window, batch=1, heads=1)
    out = KERNELS[kernel](qkv, bias, pad, window, shift, SCALE)
    reads = torch.zeros(*size, *size, dtype=torch.bool)
    for y, x in itertools.product(range(size[0]), range(size[1])):
        (gradient,) = torch.autograd.grad(out[0, y, x].sum(), qkv, retain_graph=True)
        reads[y, x] = gradient[0].abs().amax(dim=(2, 3, 4)) > 1e-20  # exp(-100) is 4e-44, and not zero
    want = torch.zeros_like(reads)
    for tokens in brute_force.windows(size, window, shift):
        real = [t for t in tokens if t.y < size[0] and t.x < size[1]]
        for a, b in itertools.product(real, real):
            want[a.y, a.x, b.y, b.x] = a.region == b.region
    assert torch.equal(reads, want)
    assert want[0, 0].nonzero().max() == 2, 'the first token reads the corner before the seam, rows and columns 0 to 2'


@pytest.mark.parametrize('kernel', EVERYWHERE)
def test_padding_is_attended_to(kernel):
    """Official semantics: a padding token takes its share of the softmax. Masking it would break released detectors."""
    qkv, bias, _ = make_inputs((1, 1), (2, 2), batch=1, heads=1)
    zeros = [torch.zeros_like(x) for x in (qkv, bias)]
    zeros[0][:, :, :, 2] = 1
    pad = torch.full((3, 1, 4), 5.0, dtype=torch.float64)
    out = KERNELS[kernel](*zeros, pad, (2, 2), (0, 0), SCALE)
    torch.testing.assert_close(out, torch.full_like(out, (1 + 3 * 5) / 4))
    torch.testing.assert_close(KERNELS[kernel](*zeros, None, (2, 2), (0, 0), SCALE), torch.full_like(out, 1 / 4))


@pytest.mark.parametrize('shift', [(0, 0), (3, 3)], ids=str)
@pytest.mark.parametrize('kernel', ['reference', 'sdpa'])
def test_dropout_drops_attention_weights(kernel, shift):
    """Equal weights 1/49 and values of one: an output counts the weights that were kept."""
    p, N, heads = 0.25, 49, 4
    qkv = torch.zeros(4, 28, 28, 3, heads, 2, dtype=torch.float64)
    qkv[:, :, :, 2] = 1
    out = KERNELS[kernel](qkv, torch.zeros(heads, N, N, dtype=torch.float64), None, (7, 7), shift, 1.0, p)
    inside = out[:, 7:14, 7:14].unflatten(-1, (heads, 2))  # no masked pair in these windows
    counts = inside * N * (1 - p)
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-9)
    assert torch.equal(inside[..., 0], inside[..., 1]), 'a weight serves every channel of its head'
    assert not torch.equal(inside[..., 0, 0], inside[..., 1, 0]), 'heads drop weights of their own'
    sigma = (p / (1 - p) / N) ** 0.5
    assert abs(inside.mean() - 1) < 5 * sigma / inside[..., 0].numel() ** 0.5
    assert 0.8 * sigma < inside.std() < 1.2 * sigma


@pytest.mark.parametrize('kernel', ['reference', 'sdpa'])
def test_dropout_is_the_same_forwards_and_backwards(kernel):
    """The map is linear in the values: their gradient, times the values, is the map again, for one draw of weights."""
    qkv, bias, _ = make_inputs((9, 10), (7, 7))
    out = KERNELS[kernel](qkv, bias, None, (7, 7), (3, 3), SCALE, 0.3)
    (gradient,) = torch.autograd.grad(out.sum(), qkv)
    torch.testing.assert_close((gradient * qkv)[:, :, :, 2].sum(), out.sum())
    plain = KERNELS[kernel](qkv, bias, None, (7, 7), (3, 3), SCALE)
    assert not torch.allclose(out, plain)


def test_the_cpu_kernel_refuses_what_it_cannot_do():
    qkv, bias = torch.zeros(1, 7, 7, 3, 2, 4), torch.zeros(2, 49, 49)
    with pytest.raises(ValueError, match=r"kernel='cpu' has no dropout .* got 0\.1: use 'reference'"):
        KERNELS['cpu'](qkv, bias, None, (7, 7), (0, 0), 1.0, 0.1)
    with pytest.raises(ValueError, match=r"kernel='cpu' must be given .* on the CPU, got meta"):
        KERNELS['cpu'](qkv.to('meta'), bias, None, (7, 7), (0, 0), 1.0)
