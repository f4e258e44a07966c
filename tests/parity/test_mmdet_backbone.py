"""Two lines turn a stock recipe into ours, and with equal weights it gives the maps that the stock backbone gives."""

import pytest
import torch
from convert import to_mmdet, to_official

from swin_mm import SwinTransformer

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmdet.models.backbones.swin import SwinTransformer as MMDetSwin
from mmdet.models.backbones.swin import swin_converter
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmseg.models.backbones.swin import SwinTransformer as MMSegSwin

RECIPES = [
    ('mmdet', 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
    ('mmseg', 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'),
]
SMALL = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), drop_path_rate=0.0)


def randomize(net):
    """As if trained: matrices stay small, but no norm does nothing, no bias is zero, and tables of biases matter."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            scale = 0.5 if 'table' in name else 0.2 if parameter.ndim == 1 else 0.02
            parameter += scale * torch.randn_like(parameter)
    return net


def copy_weights(ours: SwinTransformer, stock: torch.nn.Module) -> None:
    """Writes our weights into OpenMMLab's module; only its derived indices stay as they are."""
    missing, unexpected = stock.load_state_dict(to_mmdet(ours.state_dict()), strict=False)
    assert unexpected == []
    assert all(name.endswith('relative_position_index') for name in missing)


@pytest.mark.parametrize(('scope', 'recipe'), RECIPES)
def test_two_lines_are_a_drop_in(tmp_path, scope, recipe):
    """A whole model from the registries; Swin-T at 427x640, where all four stages are padded."""
    config = tmp_path / 'ours.py'
    config.write_text(f"_base_ = '{scope}::{recipe}'\nmodel = dict(backbone=dict(type='swin_mm.SwinTransformer'))\n")
    stock_backbone = Config.fromfile(_same_with_stock_type(config)).model.backbone
    assert stock_backbone.type == 'SwinTransformer'
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(Config.fromfile(config).model)
        stock = MODELS.build(stock_backbone)
    ours = model.backbone
    assert type(ours) is SwinTransformer
    assert type(stock) is {'mmdet': MMDetSwin, 'mmseg': MMSegSwin}[scope]

    copy_weights(randomize(ours), stock)
    ours.eval()
    stock.eval()
    image = torch.randn(1, 3, 427, 640)
    with torch.no_grad():
        for got, want in zip(ours(image), stock(image), strict=True):
            assert got.shape == want.shape
            assert (got - want).abs().max() < 1e-5 * want.std()


def _same_with_stock_type(config):
    stock = config.with_name('stock.py')
    stock.write_text(config.read_text().splitlines()[0])
    return stock


@pytest.mark.parametrize('stock_class', [MMDetSwin, MMSegSwin], ids=['mmdet', 'mmseg'])
def test_conversion_is_bitwise_in_both_directions(stock_class):
    stock = randomize(stock_class(**SMALL, use_abs_pos_embed=True, pretrain_img_size=(32, 48)))
    state = stock.state_dict()
    official = to_official(state, (8, 12))
    back = to_mmdet(official)
    assert list(back) == list(state)
    assert all(torch.equal(back[name], value) for name, value in state.items())

    ours = SwinTransformer(**SMALL, use_abs_pos_embed=True, pretrain_img_size=(32, 48))
    ours.load_state_dict(official, strict=True)
    again = to_official(to_mmdet(ours.state_dict()), (8, 12))
    assert all(torch.equal(again[name], value) for name, value in ours.state_dict().items())


def test_conversion_is_that_of_mmdet():
    state = randomize(SwinTransformer(**SMALL)).state_dict()
    want = {name.removeprefix('backbone.'): value for name, value in swin_converter(state).items()}
    got = to_mmdet(state)
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], value) for name, value in want.items())


@pytest.mark.parametrize('arguments', [{}, dict(window_size=5, mlp_ratio=2), dict(qkv_bias=False, out_indices=(1, 3))])
@pytest.mark.parametrize('size', [(61, 70), (20, 200)])
@pytest.mark.parametrize('stock_class', [MMDetSwin, MMSegSwin], ids=['mmdet', 'mmseg'])
def test_values_and_gradients_are_equal_in_float64(stock_class, size, arguments):
    """``norm_cfg`` and so on as recipes leave them; later stages than the last map belong to the stock class alone."""
    ours, stock = randomize(SwinTransformer(**SMALL, **arguments)).double(), stock_class(**SMALL, **arguments).double()
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
