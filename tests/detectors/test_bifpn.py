"""BiFPN against one pass written out, and its rules."""

import pytest
import torch
from torch.nn import functional

pytest.importorskip('mmdet')
from swin_mm.detectors.bifpn import BiFPN, DownAndUp


def mean(combine, *maps):
    weights = combine.weights.clamp(min=0).flatten().tolist()
    total = sum(w * x for w, x in zip(weights, maps, strict=True)) / (sum(weights) + 1e-4)
    return total / (1 + torch.exp(-total))


def up(x, like):
    return functional.interpolate(x, size=like.shape[2:])


def down(x):
    return functional.max_pool2d(x, 3, 2, 1)


def test_one_pass_goes_down_and_up():
    torch.manual_seed(0)
    layer = DownAndUp([3, 4, 5], 4, dict(type='GN', num_groups=2))
    for combine in [*layer.lateral_combine, *layer.out_combine]:
        torch.nn.init.uniform_(combine.weights, -0.3, 1.0)
    maps = [torch.randn(2, 3, 9, 6), torch.randn(2, 4, 5, 3), torch.randn(2, 5, 3, 2)]
    fine, middle, coarse = layer(maps)

    a, c = layer.lateral_convs[0](maps[0]), layer.lateral_convs[2](maps[2])
    b = maps[1]  # of the right width already
    going_down = layer.lateral_combine_conv[1](mean(layer.lateral_combine[1], b, up(c, b)))
    want_fine = layer.lateral_combine_conv[0](mean(layer.lateral_combine[0], a, up(going_down, a)))
    want_middle = layer.out_combine_conv[0](mean(layer.out_combine[0], down(want_fine), going_down, b))
    want_coarse = layer.out_combine_conv[1](mean(layer.out_combine[1], down(want_middle), c))
    torch.testing.assert_close((fine, middle, coarse), (want_fine, want_middle, want_coarse))


def test_further_levels_are_halves_of_the_last():
    neck = BiFPN([3, 4], 8, num_outs=5, num_repeat=2)
    maps = neck([torch.randn(1, 3, 13, 20), torch.randn(1, 4, 7, 10)])
    assert [tuple(x.shape) for x in maps] == [(1, 8, *size) for size in ((13, 20), (7, 10), (4, 5), (2, 3), (1, 2))]


def test_there_cannot_be_fewer_outputs_than_maps():
    with pytest.raises(ValueError, match='num_outs must be at least the 2 maps of in_channels, got 1'):
        BiFPN([3, 4], 8, num_outs=1, num_repeat=1)
