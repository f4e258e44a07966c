"""The attention module: its parameters, its table of biases, and torchvision's module as oracle."""

import pytest
import torch
from torchvision.models.swin_transformer import ShiftedWindowAttention

from swin_mm.backbone.attention.window import WindowAttention, relative_position_index
from swin_mm.kernels import KERNELS


@pytest.mark.parametrize('window', [(7, 7), (12, 12), (4, 6), (1, 1), (1, 5)])
def test_relative_position_index_counts_offsets(window):
    """Rows of the table: offsets (dy, dx) from the most negative on, dx running fastest."""
    h, w = window
    rows = {}
    for dy in range(1 - h, h):
        for dx in range(1 - w, w):
            rows[dy, dx] = len(rows)
    places = [(y, x) for y in range(h) for x in range(w)]
    want = [[rows[y - y2, x - x2] for y2, x2 in places] for y, x in places]
    index = relative_position_index(window)
    assert index.dtype == torch.int64
    assert torch.equal(index, torch.tensor(want))


def test_bias_depends_on_the_offset_alone():
    attention = WindowAttention(8, 2, (3, 4))
    table = attention.relative_position_bias_table.view(5, 7, 2)
    bias = attention.bias().view(2, 3, 4, 3, 4)
    for head in range(2):
        assert bias[head, 2, 1, 0, 3] == table[2 + 2, 3 - 2, head]
        assert bias[head, 0, 0, 2, 3] == table[0, 0, head]


@pytest.mark.parametrize('kernel', ['reference', 'sdpa', 'cpu'])
@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize(('window', 'shift'), [((7, 7), (3, 3)), ((7, 7), (0, 0)), ((4, 6), (2, 3))])
@pytest.mark.parametrize('size', [(14, 14), (12, 9), (8, 29)])
def test_equals_torchvision_on_maps_of_two_windows_and_more(kernel, qkv_bias, window, shift, size):
    """Any size with at least two windows a side: there torchvision shifts too (on smaller maps it does not)."""
    ours = WindowAttention(8, 2, window, shift, qkv_bias, kernel=kernel).double()
    theirs = ShiftedWindowAttention(8, list(window), list(shift), 2, qkv_bias).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert (missing, unexpected) == (['relative_position_index'], [])

    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    ramp = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    values, gradients = [], []
    for module in (ours, theirs):
        y = module(x)
        values.append(y)
        wrt = [x, *(parameter for _, parameter in sorted(module.named_parameters()))]
        gradients.append(torch.autograd.grad((y * ramp).sum(), wrt))
    torch.testing.assert_close(*values, rtol=1e-11, atol=1e-11)
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_scale_is_the_given_one_or_that_of_the_head():
    assert WindowAttention(8, 2, (7, 7)).scale == 0.5
    attention = WindowAttention(8, 2, (7, 7), qk_scale=0.0)
    attention.relative_position_bias_table.data.zero_()
    x = torch.randn(1, 7, 7, 8)
    values = attention.qkv(x)[..., 16:]  # no scores and no bias: every token reads the mean of its window
    want = attention.proj(values.mean((1, 2), keepdim=True)).expand_as(x)
    torch.testing.assert_close(attention(x), want)


@pytest.mark.parametrize('which', ['attn_drop', 'proj_drop'])
def test_dropout_acts_in_training_only(which):
    attention = WindowAttention(8, 2, (7, 7), **{which: 0.5})
    plain = WindowAttention(8, 2, (7, 7))
    plain.load_state_dict(attention.state_dict())
    x = torch.randn(1, 9, 9, 8)
    assert not torch.equal(attention.train()(x), attention(x))
    assert torch.equal(attention.eval()(x), plain(x))


def test_projection_dropout_zeroes_whole_outputs():
    attention = WindowAttention(8, 2, (7, 7), proj_drop=0.5)
    torch.nn.init.ones_(attention.proj.bias)
    x = torch.randn(1, 14, 14, 8)
    dropped, full = attention.train()(x), attention.eval()(x)
    kept = dropped != 0
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(dropped[kept], 2 * full[kept])


def test_the_index_follows_from_the_window_and_is_not_saved():
    assert sorted(WindowAttention(8, 2, (7, 7)).state_dict()) == [
        'proj.bias',
        'proj.weight',
        'qkv.bias',
        'qkv.weight',
        'relative_position_bias_table',
    ]


def test_bias_table_starts_random():
    """Official ``WindowAttention.__init__``; OpenMMLab's copy leaves it at zero when training from scratch."""
    table = WindowAttention(32, 4, (12, 12)).relative_position_bias_table
    assert 0.017 < table.std() < 0.023
    assert table.abs().max() < 0.2


@pytest.mark.parametrize(('name', 'taken'), [*zip(KERNELS, KERNELS, strict=True), ('auto', 'cpu')])
def test_kernel_is_chosen_by_name(name, taken, monkeypatch):
    def note(qkv, *_):
        raise InterruptedError(name)

    monkeypatch.setitem(KERNELS, taken, note)
    with pytest.raises(InterruptedError):
        WindowAttention(8, 2, (7, 7), kernel=name)(torch.randn(1, 7, 7, 8))


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match=r"kernel must be one of \['auto', 'reference', .*\], got 'flash'"):
        WindowAttention(8, 2, (7, 7), kernel='flash')


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r'num_heads must divide .* got num_heads=3 width=8'):
        WindowAttention(8, 3, (7, 7))


def test_repr_tells_the_geometry():
    assert 'window=(4, 6), shift=(2, 3), num_heads=2' in repr(WindowAttention(8, 2, (4, 6), (2, 3)))
