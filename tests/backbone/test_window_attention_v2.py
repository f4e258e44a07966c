"""Cosine attention of V2: torchvision's module as oracle, and the official rules restated where that differs."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.swin_transformer import ShiftedWindowAttentionV2

from swin_mm.backbone.attention.window_v2 import WindowAttentionV2, relative_coords_table
from swin_mm.kernels import KERNELS

EVERYWHERE = ['reference', 'sdpa', 'cpu']
SIZES = [(16, 16), (12, 9), (10, 29), (3, 5), (1, 1), (8, 2)]
WINDOWS = [((8, 8), (4, 4)), ((8, 8), (0, 0)), ((4, 6), (2, 3))]


def make_attention(window, shift=(0, 0), dim=8, heads=2, **arguments) -> WindowAttentionV2:
    """In float64, with no parameter at a special value."""
    attention = WindowAttentionV2(dim, heads, window, shift, **arguments).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return attention


def value_and_gradients(function, x: Tensor, parameters) -> list[Tensor]:
    """The result, and the gradients of a sum that tells its entries apart."""
    x = x.detach().requires_grad_()
    y = function(x)
    ramp = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y, *torch.autograd.grad((y * ramp).sum(), [x, *parameters])]


def assert_equal(got, want, tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def official(attention: WindowAttentionV2, x: Tensor) -> Tensor:
    """Microsoft's rules with loops over windows: pad ``x`` itself, roll, then attend with -100 across regions."""
    B, H, W, C = x.shape
    (h, w), (dy, dx), heads = attention.window, attention.shift, attention.num_heads
    rows, columns = math.ceil(H / h), math.ceil(W / w)
    x = F.pad(x, (0, 0, 0, columns * w - W, 0, rows * h - H)).roll((-dy, -dx), (1, 2))
    region = torch.zeros(rows * h, columns * w)
    for i, top in enumerate((0, (rows - 1) * h, rows * h - dy)):
        for j, left in enumerate((0, (columns - 1) * w, columns * w - dx)):
            region[top:, left:] = 3 * i + j
    k_bias = torch.zeros(C, dtype=x.dtype)
    qkv_bias = None if attention.q_bias is None else torch.cat([attention.q_bias, k_bias, attention.v_bias])
    scale = attention.logit_scale.clamp(max=math.log(1 / 0.01)).exp()
    result = torch.empty_like(x)
    for top in range(0, rows * h, h):
        for left in range(0, columns * w, w):
            place = (slice(None), slice(top, top + h), slice(left, left + w))
            qkv = F.linear(x[place].flatten(1, 2), attention.qkv.weight, qkv_bias)
            q, k, v = qkv.view(B, h * w, 3, heads, -1).permute(2, 0, 3, 1, 4)
            scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale + attention.bias()
            own = region[place[1:]].flatten()
            scores = scores + torch.where(own[:, None] == own, 0.0, -100.0)
            y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, h, w, C)
            result[place] = F.linear(y, attention.proj.weight, attention.proj.bias)
    return result.roll((dy, dx), (1, 2))[:, :H, :W]


@pytest.mark.parametrize('kernel', EVERYWHERE)
@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize(('window', 'shift'), WINDOWS)
@pytest.mark.parametrize('size', SIZES)
def test_equals_the_official_rules_at_any_size(kernel, qkv_bias, window, shift, size):
    """Odd sizes, and maps smaller than a window, which shift all the same."""
    attention = make_attention(window, shift, qkv_bias=qkv_bias, kernel=kernel)
    x = torch.randn(2, *size, 8, dtype=torch.float64)
    wrt = list(attention.parameters())
    want = value_and_gradients(lambda x: official(attention, x), x, wrt)
    assert_equal(value_and_gradients(attention, x, wrt), want, 1e-10)


@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize(('window', 'shift'), WINDOWS)
@pytest.mark.parametrize('size', [(16, 16), (12, 13), (9, 29)])
def test_equals_torchvision_on_maps_of_two_windows_and_more(qkv_bias, window, shift, size):
    ours = make_attention(window, shift, qkv_bias=qkv_bias)
    theirs = ShiftedWindowAttentionV2(8, list(window), list(shift), 2, qkv_bias).double()
    state = ours.state_dict()
    if qkv_bias:
        q, v = state.pop('q_bias'), state.pop('v_bias')
        state['qkv.bias'] = torch.cat([q, torch.randn_like(q), v])  # their keys' bias is there and never used
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert (sorted(missing), unexpected) == (['relative_coords_table', 'relative_position_index'], [])

    x = torch.randn(2, *size, 8, dtype=torch.float64)
    names = [name for name, _ in ours.named_parameters() if name not in ('q_bias', 'v_bias')]
    biases = [ours.q_bias, ours.v_bias] if qkv_bias else []
    *got, dq, dv = value_and_gradients(ours, x, [*map(ours.get_parameter, names), *(biases or [ours.logit_scale] * 2)])
    biases = [theirs.qkv.bias] if qkv_bias else [theirs.logit_scale]
    *want, dbias = value_and_gradients(theirs, x, [*map(theirs.get_parameter, names), *biases])
    assert_equal(got, want, 1e-9)
    if qkv_bias:
        assert_equal([torch.cat([dq, torch.zeros_like(dq), dv])], [dbias], 1e-9)


@pytest.mark.parametrize(
    ('window', 'pretrained'), [((3, 4), (0, 0)), ((3, 4), (2, 3)), ((5, 5), (3, 9)), ((1, 3), (0, 0))]
)
def test_offsets_count_in_the_pretrained_window_on_a_logarithmic_scale(window, pretrained):
    unit = [p or w for p, w in zip(pretrained, window, strict=True)]
    table = relative_coords_table(window, unit)
    (h, w) = window
    assert table.shape == (1, 2 * h - 1, 2 * w - 1, 2)
    for dy in range(1 - h, h):
        for dx in range(1 - w, w):
            for axis, (offset, side) in enumerate(zip((dy, dx), unit, strict=True)):
                share = 8 * offset / max(1, side - 1)
                want = math.copysign(math.log2(abs(share) + 1) / math.log2(8), share) if offset else 0.0
                assert table[0, dy + h - 1, dx + w - 1, axis] == pytest.approx(want, abs=1e-6)


def test_bias_depends_on_the_offset_alone_and_is_between_0_and_16():
    attention = make_attention((3, 4), pretrained_window=(2, 2))
    bias = attention.bias().view(2, 3, 4, 3, 4)
    coordinates = attention.relative_coords_table[0, 2 + 2, 3 - 2]
    want = 16 * torch.sigmoid(attention.cpb_mlp[2](F.relu(attention.cpb_mlp[0](coordinates))))
    torch.testing.assert_close(bias[:, 2, 1, 0, 3], want)
    assert torch.equal(bias[:, 2, 1, 0, 0], bias[:, 2, 2, 0, 1])
    assert 0 < bias.min() < bias.max() < 16


def test_the_bias_at_an_offset_is_the_same_in_a_larger_window():
    """What the pretrained window is for: weights of one window serve another."""
    small, large = make_attention((4, 4)), make_attention((6, 8), pretrained_window=(4, 4))
    large.load_state_dict(small.state_dict())
    one, other = small.bias().view(2, 4, 4, 4, 4), large.bias().view(2, 6, 8, 6, 8)
    torch.testing.assert_close(other[:, :4, :4, :4, :4], one)


def test_scale_is_limited_to_100():
    attention, x = make_attention((4, 4)), torch.randn(1, 8, 8, 8, dtype=torch.float64)
    attention.logit_scale.data[:] = torch.tensor([math.log(100), 2.0]).view(2, 1, 1)
    want = attention(x)
    attention.logit_scale.data[0] = 20.0
    torch.testing.assert_close(attention(x), want)
    attention.logit_scale.data[1] = 3.0
    assert not torch.allclose(attention(x), want)


@pytest.mark.parametrize('factor', [0.001, 1000.0])
def test_the_length_of_queries_and_keys_does_not_matter(factor):
    attention, x = make_attention((4, 4), (2, 2), qkv_bias=False), torch.randn(1, 7, 9, 8, dtype=torch.float64)
    want = attention(x)
    attention.qkv.weight.data[:16] *= factor
    torch.testing.assert_close(attention(x), want)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_lengths_are_computed_in_float32(dtype):
    """Squares of 300 are beyond float16, and their sum in bfloat16 is off by percents."""
    attention, qkv = make_attention((4, 4), dim=128), 300 * torch.randn(1, 4, 4, 384)
    (got, pad), (want, _) = attention.to(dtype).split_heads(qkv.to(dtype)), attention.float().split_heads(qkv)
    assert got.dtype == pad.dtype == dtype
    assert (got.float() - want)[:, :, :, :2].abs().max() < 2.1 * torch.finfo(dtype).eps * want[:, :, :, 0].abs().max()


def test_starts_as_officially():
    attention = WindowAttentionV2(8, 2, (4, 4))
    assert torch.equal(attention.logit_scale, torch.full((2, 1, 1), math.log(10)))
    assert not attention.q_bias.any()
    assert not attention.v_bias.any()


@pytest.mark.parametrize('qkv_bias', [True, False])
def test_names_are_the_official_ones(qkv_bias):
    names = ['cpb_mlp.0.bias', 'cpb_mlp.0.weight', 'cpb_mlp.2.weight', 'logit_scale', 'proj.bias', 'proj.weight']
    names += ['qkv.weight', *(['q_bias', 'v_bias'] if qkv_bias else [])]
    attention = WindowAttentionV2(8, 2, (4, 4), qkv_bias=qkv_bias)
    assert sorted(attention.state_dict()) == sorted(names)
    assert attention.logit_scale.shape == (2, 1, 1)


@pytest.mark.parametrize('kernel', KERNELS)
def test_kernel_is_chosen_by_name(kernel, monkeypatch):
    def note(qkv, bias, pad, window, shift, scale, dropout):
        raise InterruptedError(f'{window} {shift} {scale} {dropout}')

    monkeypatch.setitem(KERNELS, kernel, note)
    with pytest.raises(InterruptedError, match=r'\(8, 8\) \(4, 4\) 1.0 0.3'):
        WindowAttentionV2(8, 2, (8, 8), (4, 4), attn_drop=0.3, kernel=kernel)(torch.randn(1, 8, 8, 8))
