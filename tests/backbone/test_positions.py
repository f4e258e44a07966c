"""Table 4 of the paper as arguments: with and without shifts, and what tells positions."""

import pytest
import torch

from swin_mm import SwinClassifier
from swin_mm.backbone.arguments import POSITIONS, Arguments

IMAGE = (2, 3, 60, 70)


def maps_of(net):
    with torch.no_grad():
        return net.eval()(torch.randn(IMAGE, generator=torch.Generator().manual_seed(0)))


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def assert_differ(got, want):
    assert all((a - b).abs().max() > 1e-2 for a, b in zip(got, want, strict=True))


def test_no_block_shifts_without_shift(make_swin):
    plain, shifted = make_swin(shift=False), make_swin()
    shifts = [[block.attn.shift for block in stage.blocks] for stage in plain.layers]
    assert shifts == [[(0, 0), (0, 0)]] * 4
    assert [block.attn.shift for block in shifted.layers[0].blocks] == [(0, 0), (3, 3)]
    plain.load_state_dict(shifted.state_dict())
    first, *_ = zip(maps_of(plain), maps_of(shifted), strict=True)
    assert (first[0] - first[1]).abs().max() > 1e-2


def test_without_shift_windows_do_not_see_each_other(make_swin):
    """A token of the first map depends on its window of 28 pixels; with a shift on those that its second one meets."""
    for shift, last in ((False, 28), (True, 56)):
        image = torch.zeros(1, 3, 112, 112, requires_grad=True)
        make_swin(shift=shift).eval()(image)[0][0, 0, 3, 3].backward()
        rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        assert (rows.min().item(), rows.max().item() + 1) == (0, last)


@pytest.mark.parametrize('kernel', ['auto', 'reference'])
def test_a_relative_bias_of_zeros_is_no_position(make_swin, kernel):
    none, relative = make_swin(position='none', kernel=kernel), make_swin(kernel=kernel)
    assert not [name for name, _ in none.named_parameters() if 'table' in name]
    assert_differ(maps_of(none), maps_of(relative))
    tables = {name: torch.zeros_like(value) for name, value in relative.state_dict().items() if 'table' in name}
    relative.load_state_dict(none.state_dict() | tables)
    assert_equal(maps_of(none), maps_of(relative))


def test_an_absolute_embedding_of_zeros_is_no_position(make_swin):
    for with_zeros, without in (('absolute', 'none'), ('absolute+relative', 'relative')):
        absolute, plain = make_swin(position=with_zeros), make_swin(position=without)
        state = plain.state_dict() | {'absolute_pos_embed': absolute.absolute_pos_embed.detach()}
        absolute.load_state_dict(state)
        assert_differ(maps_of(absolute), maps_of(plain))
        absolute.load_state_dict(state | {'absolute_pos_embed': torch.zeros_like(absolute.absolute_pos_embed)})
        assert_equal(maps_of(absolute), maps_of(plain))


def test_the_embedding_has_its_openmmlab_name_too(make_swin):
    both, older = make_swin(position='absolute+relative'), make_swin(use_abs_pos_embed=True)
    assert both.arguments == older.arguments
    assert both.arguments.use_abs_pos_embed
    assert_equal(maps_of(both), maps_of(older))
    assert Arguments(position='absolute', use_abs_pos_embed=True) == Arguments(position='absolute')
    assert not Arguments().use_abs_pos_embed


@pytest.mark.parametrize('kernel', ['auto', 'reference', 'sdpa', 'cpu'])
@pytest.mark.parametrize('grad', [True, False])
def test_relative_only_weighs_values_by_the_bias_alone(make_swin, kernel, grad):
    """``softmax(bias) @ v``, by hand."""
    net = make_swin(position='relative_only', kernel=kernel).eval()
    attention = net.layers[0].blocks[0].attn
    x = torch.randn(1, 7, 7, 8)
    with torch.set_grad_enabled(grad):
        got = attention(x)
    values = attention.qkv(x)[..., 16:].flatten(1, 2)
    torch.testing.assert_close(got, attention.proj(attention.bias()[0].softmax(-1) @ values).view_as(x))
    queries = attention.qkv.weight.data[:16]
    before = maps_of(net)
    queries.normal_()  # queries and keys mean nothing
    assert_equal(maps_of(net), before)


@pytest.mark.parametrize('position', POSITIONS)
def test_every_parameter_learns(make_swin, position):
    """No parameter stays without a gradient, which DDP would wait for."""
    net = make_swin(position=position)
    sum(m.square().sum() for m in net(torch.randn(IMAGE))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ('broken', 'sentence'),
    [
        (dict(position='rel'), r"position must be one of \('relative', 'none', .*got rel"),
        (dict(position='none', use_abs_pos_embed=True), "position must have 'absolute' in it, with .*got none"),
        (dict(position='relative_only', qk_scale=0.5), "qk_scale must be None with position='relative_only'.*got 0.5"),
        (dict(attention='axial'), r"attention must be one of \['window', 'sliding', .*got 'axial'"),
        (dict(attention=dict(features=3)), r"attention must be .*got {'features': 3}"),
        (dict(attention='performer'), "position must be 'none' or 'absolute' with attention='performer'"),
    ],
)
def test_what_does_not_go_together_is_told(make_swin, broken, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_swin(**broken)


def test_a_classifier_takes_all_but_the_embedding():
    small = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))
    for other in (dict(position='none', attention='performer'), dict(shift=False), dict(position='relative_only')):
        net = SwinClassifier(num_classes=3, **small, **other).eval()
        assert net(torch.randn(1, 3, 64, 64)).isfinite().all()
    with pytest.raises(ValueError, match="position must have no 'absolute' in it in a SwinClassifier, got absolute"):
        SwinClassifier(**small, position='absolute')
