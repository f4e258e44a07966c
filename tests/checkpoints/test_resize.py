"""Weights for another window, size of pretraining or number of channels."""

import pytest
import torch
import torch.nn.functional as F
from libraries import SMALL

from swin_mm import SwinTransformer
from swin_mm.checkpoints import adapt, from_official
from swin_mm.checkpoints.resize import adapt_channels, resize_embedding, resize_table
from swin_mm.errors import CheckpointError


def official_rule(table: torch.Tensor, window: int) -> torch.Tensor:
    """``mmcv_custom/checkpoint.py``, as the parity table gives it."""
    heads, old, new = table.shape[1], int(len(table) ** 0.5), 2 * window - 1
    maps = table.permute(1, 0).view(1, heads, old, old)
    return F.interpolate(maps, size=(new, new), mode='bicubic').view(heads, new * new).permute(1, 0)


@pytest.mark.parametrize('window', [4, 7, 8, 12])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_tables_are_resized_by_the_official_rule(window, dtype):
    table = torch.randn(13 * 13, 6).to(dtype)
    got = resize_table(table, (window, window))
    assert got.dtype == dtype
    assert got.is_contiguous()
    assert torch.equal(got, official_rule(table.float(), window).to(dtype))
    assert window != 7 or torch.equal(got, table)


def test_tables_of_a_window_that_is_not_square():
    """What varies along one axis varies along the same one afterwards."""
    rows = torch.arange(13.0).repeat_interleave(13)[:, None]
    got = resize_table(rows, (4, 12)).view(7, 23)
    torch.testing.assert_close(got, got[:, :1].expand(7, 23))
    assert (got[1:] > got[:-1]).all()
    torch.testing.assert_close(resize_table(torch.full((169, 2), 0.3), (4, 12)), torch.full((7 * 23, 2), 0.3))
    with pytest.raises(CheckpointError, match=r'must be of a square window to be resized, got shape \(91, 2\)'):
        resize_table(torch.zeros(7 * 13, 2), (7, 7))


@pytest.mark.parametrize('window', [5, 12, (3, 6)])
@pytest.mark.parametrize('dialect', ['official', 'mmdet', 'timm'])
def test_a_checkpoint_of_another_window_loads_strictly(make_swin, dialect, window):
    source = make_swin(seed=1).state_dict()
    if dialect == 'timm':
        source = {key: value for key, value in source.items() if key[:4] != 'norm'}
    net = SwinTransformer(**SMALL, window_size=window)
    net.load_state_dict(from_official(source, dialect), strict=True)
    for key, value in net.state_dict().items():
        if 'table' in key:
            assert torch.equal(value, resize_table(source[key], net.arguments.window_size))
        elif key in source:
            assert torch.equal(value, source[key])
    assert all(m.isfinite().all() for m in net(torch.randn(1, 3, 50, 70)))


def test_tables_of_one_stage_that_differ_are_refused(make_swin):
    own = make_swin().state_dict()
    key = 'layers.1.blocks.1.attn.relative_position_bias_table'
    broken = {**own, key: own[key][: 11 * 11]}
    with pytest.raises(CheckpointError, match=rf'bias tables of a stage must have one shape, got .*{key}'):
        adapt(broken, own, (7, 7))


@pytest.mark.parametrize('form', ['flat', 'map'])
def test_an_absolute_position_embedding_of_another_size_loads(make_swin, form):
    source = make_swin(seed=1, use_abs_pos_embed=True, pretrain_img_size=64).state_dict()
    want = F.interpolate(source['absolute_pos_embed'], size=(8, 12), mode='bicubic')
    if form == 'flat':
        source['absolute_pos_embed'] = source['absolute_pos_embed'].flatten(2).mT
    net = make_swin(seed=2, use_abs_pos_embed=True, pretrain_img_size=(32, 48))
    net.load_state_dict(source, strict=True)
    assert torch.equal(net.absolute_pos_embed, want)
    with pytest.raises(CheckpointError, match=r'must be \(1, C, H, W\)'):
        resize_embedding(torch.zeros(4, 4), (2, 2))


@pytest.mark.parametrize(
    ('how', 'channels'), [('average', 1), ('average', 2), ('average', 7), ('repeat', 1), ('repeat', 6), ('sum', 1)]
)
def test_equal_channels_are_answered_as_before(how, channels):
    weight, grey = torch.randn(8, 3, 4, 4).double(), torch.randn(1, 1, 16, 16).double()
    got = F.conv2d(grey.expand(1, channels, 16, 16), adapt_channels(weight, channels, how))
    torch.testing.assert_close(got, F.conv2d(grey.expand(1, 3, 16, 16), weight))


def test_repeated_channels_are_red_green_blue_in_turn():
    weight = torch.randn(8, 3, 4, 4)
    torch.testing.assert_close(adapt_channels(weight, 6), torch.cat([weight, weight], 1) / 2)
    torch.testing.assert_close(adapt_channels(weight, 4)[:, 3], weight[:, 0] * 0.75)


def test_summed_channels_each_answer_as_a_grey_image():
    weight, one = torch.randn(8, 3, 4, 4), torch.zeros(1, 5, 16, 16)
    one[:, 2] = torch.randn(16, 16)
    got = F.conv2d(one, adapt_channels(weight, 5, 'sum'))
    torch.testing.assert_close(got, F.conv2d(one[:, 2:3].expand(1, 3, 16, 16), weight))


@pytest.mark.parametrize('how', ['repeat', 'average', 'sum'])
@pytest.mark.parametrize('channels', [1, 4])
def test_rgb_weights_load_into_other_channels_as_the_config_says(make_swin, how, channels):
    source = make_swin(seed=1).state_dict()
    net = SwinTransformer(**SMALL, in_channels=channels, first_conv=how)
    net.load_state_dict(source, strict=True)
    assert torch.equal(net.patch_embed.proj.weight, adapt_channels(source['patch_embed.proj.weight'], channels, how))
    with pytest.raises(CheckpointError, match=r'only an RGB convolution .* is adapted, got \(8, [14], 4, 4\)'):
        SwinTransformer(**SMALL).load_state_dict(net.state_dict(), strict=True)
    with pytest.raises(CheckpointError, match=r"first_conv must be one of .* got 'mean'"):
        adapt_channels(source['patch_embed.proj.weight'], 4, 'mean')
