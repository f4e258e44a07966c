"""Two lines turn a stock recipe into ours, and with equal weights it gives the maps that the stock backbone gives."""

import pytest
import torch
from equal_weights import build_pair, copy_weights, drop_in, randomize

from swin_mm import SwinTransformer
from swin_mm.checkpoints import from_official, to_official

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmdet.models.backbones.swin import SwinTransformer as MMDetSwin
from mmdet.models.backbones.swin import swin_converter
from mmseg.models.backbones.swin import SwinTransformer as MMSegSwin

RECIPES = [
    ('mmdet', 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
    ('mmseg', 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'),
]
SMALL = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), drop_path_rate=0.0)


@pytest.mark.parametrize(('scope', 'recipe'), RECIPES)
def test_two_lines_are_a_drop_in(tmp_path, scope, recipe):
    """A whole model from the registries; Swin-T at 427x640, where all four stages are padded."""
    ours, stock = (model.eval().backbone for model in build_pair(scope, *drop_in(tmp_path, scope, recipe)))
    image = torch.randn(1, 3, 427, 640)
    with torch.no_grad():
        for got, want in zip(ours(image), stock(image), strict=True):
            assert got.shape == want.shape
            assert (got - want).abs().max() < 1e-5 * want.std()


def test_conversion_is_that_of_mmdet():
    state = randomize(SwinTransformer(**SMALL)).state_dict()
    want = {name.removeprefix('backbone.'): value for name, value in swin_converter(state).items()}
    got = {name: value for name, value in from_official(state, 'mmdet').items() if not name.endswith('_index')}
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], value) for name, value in want.items())


ARGUMENTS = [
    {},
    dict(window_size=5, mlp_ratio=2),
    dict(qkv_bias=False, out_indices=(1, 3)),
    dict(depths=(1,), num_heads=(2,), strides=(4,), out_indices=(0,)),
    dict(depths=(2, 1, 1, 1, 2), num_heads=(1, 2, 2, 4, 8), strides=(4, 2, 2, 2, 2), out_indices=(1, 2, 3, 4)),
]


@pytest.mark.parametrize('arguments', ARGUMENTS, ids=lambda arguments: '-'.join(arguments) or 'plain')
@pytest.mark.parametrize('size', [(61, 70), (20, 200)])
@pytest.mark.parametrize('stock_class', [MMDetSwin, MMSegSwin], ids=['mmdet', 'mmseg'])
def test_values_and_gradients_are_equal_in_float64(stock_class, size, arguments):
    """``norm_cfg`` and so on as recipes leave them; later stages than the last map belong to the stock class alone."""
    arguments = SMALL | arguments
    ours, stock = randomize(SwinTransformer(**arguments)).double(), stock_class(**arguments).double()
    copy_weights(ours, stock)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    maps = []
    for net in (ours, stock):
        maps.append(net(image))
        sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view_as(m)).sum() for m in maps[-1]).backward()
    for got, want in zip(*maps, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    gradients = to_official({name: p.grad for name, p in stock.named_parameters() if p.grad is not None})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-9, atol=1e-9)


def test_absolute_position_embedding_is_mmdets_at_the_size_of_pretraining():
    """The only size at which mmdet's runs at all."""
    arguments = dict(SMALL, use_abs_pos_embed=True, pretrain_img_size=(32, 48))
    ours, stock = randomize(SwinTransformer(**arguments)).double(), MMDetSwin(**arguments).double()
    copy_weights(ours, stock)
    image = torch.randn(1, 3, 32, 48, dtype=torch.float64)
    for got, want in zip(ours(image), stock(image), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), (1, 3)], ids=str)
@pytest.mark.parametrize('stages', range(-1, 5))
def test_the_same_parameters_are_frozen(stages, out_indices):
    """As mmdet's class stands after its ``train()``; ours from construction on."""
    arguments = dict(SMALL, frozen_stages=stages, out_indices=out_indices, use_abs_pos_embed=True)
    ours, stock = SwinTransformer(**arguments), MMDetSwin(**arguments)
    stock.train()
    for mode in ('built', 'trained'):
        got, want = learns(ours), to_official(learns(stock), (56, 56))
        assert [name for name in got if not torch.equal(got[name], want[name])] == [], mode
        ours.train()


def learns(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """For each parameter, where it stands in the state dict: whether it learns, and whether its module trains."""
    modules = dict(net.named_modules())
    found = {}
    for name, parameter in net.named_parameters():
        owner = modules[name.rpartition('.')[0]]
        found[name] = torch.full(parameter.shape, 2.0 * parameter.requires_grad + owner.training)
    return found
