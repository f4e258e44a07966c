"""Whole detectors and segmentors, as OpenMMLab and the official repositories save them, load into our models strictly.

Stock recipes with our two lines against the same recipes without the second of them. Names and numbers of the official
files are those that their repositories (mmdet 2.11, mmseg 0.11) give.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from swin_mm import SwinTransformer
from swin_mm.checkpoints import from_official, to_official

CONFIGS = Path(__file__).parents[2] / 'configs'
CASCADE_HEAD = dict(
    type='ConvFCBBoxHead',
    num_shared_convs=4,
    num_shared_fcs=1,
    conv_out_channels=256,
    fc_out_channels=1024,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    reg_class_agnostic=False,
    reg_decoded_bbox=True,
)


def mask_rcnn() -> ConfigDict:
    return Config.fromfile(CONFIGS / 'mask_rcnn_swin_t.py').model


def upernet() -> ConfigDict:
    return Config.fromfile(CONFIGS / 'upernet_swin_t.py').model


def cascade() -> ConfigDict:
    """Official cascade_mask_rcnn_swin_tiny_patch4_window7_*_giou_4conv1f_*: 4 convolutions and a layer a box head."""
    from mmengine.hub import get_config

    model = get_config('mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py').model
    model.backbone = copy.deepcopy(mask_rcnn().backbone)
    model.neck.in_channels = [96, 192, 384, 768]
    for head in model.roi_head.bbox_head:
        head.update(CASCADE_HEAD)
    return model


# Model, scope, parameters and entries of the whole, as in the official READMEs and files; -1: not given.
MODELS_OF = {
    'mask_rcnn': (mask_rcnn, 'mmdet', 47_794_602),
    'cascade': (cascade, 'mmdet', 85_629_804),
    'upernet': (upernet, 'mmseg', 59_941_862),
}


def official_backbone(depths=(2, 2, 6, 2)) -> Iterator[str]:
    """Names in a checkpoint of the official repositories, derived index included."""
    yield from (f'patch_embed.{part}.{kind}' for part in ('proj', 'norm') for kind in ('weight', 'bias'))
    for i, depth in enumerate(depths):
        for j in range(depth):
            block = f'layers.{i}.blocks.{j}.'
            yield from (block + 'attn.relative_position_' + kind for kind in ('bias_table', 'index'))
            for part in ('norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2'):
                yield from (f'{block}{part}.{kind}' for kind in ('weight', 'bias'))
        if i < 3:
            yield from (f'layers.{i}.downsample.{part}' for part in ('reduction.weight', 'norm.weight', 'norm.bias'))
        yield from (f'norm{i}.{kind}' for kind in ('weight', 'bias'))


def mask_rcnn_heads() -> set[str]:
    modules = [f'neck.{convs}.{i}.conv' for convs in ('lateral_convs', 'fpn_convs') for i in range(4)]
    modules += [f'rpn_head.rpn_{part}' for part in ('conv', 'cls', 'reg')]
    modules += [f'roi_head.bbox_head.{part}' for part in ('shared_fcs.0', 'shared_fcs.1', 'fc_cls', 'fc_reg')]
    modules += [f'roi_head.mask_head.{part}' for part in (*(f'convs.{i}.conv' for i in range(4)), 'upsample')]
    return {
        f'{module}.{kind}' for module in [*modules, 'roi_head.mask_head.conv_logits'] for kind in ('weight', 'bias')
    }


def build(config: ConfigDict, scope: str, backbone: str) -> nn.Module:
    """Random weights, every parameter another."""
    config = copy.deepcopy(config)
    stock_arguments = {key: value for key, value in config.backbone.items() if key not in ('type', 'arch', 'init_cfg')}
    config.backbone = dict(stock_arguments, type=backbone)
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(config)


@pytest.fixture(scope='module', params=MODELS_OF)
def pair(request) -> tuple[str, nn.Module, dict[str, torch.Tensor]]:
    """Name, our model, the state dict of the stock one."""
    make, scope, _ = MODELS_OF[request.param]
    pytest.importorskip(scope)
    torch.manual_seed(0)
    ours = build(make(), scope, 'swin_mm.SwinTransformer')
    stock = build(make(), scope, f'{scope}.SwinTransformer').state_dict()
    return (
        request.param,
        ours,
        {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in stock.items()},
    )


def test_the_models_are_the_official_ones(pair):
    name, ours, stock = pair
    assert isinstance(ours.backbone, SwinTransformer)
    assert sum(p.numel() for p in ours.parameters()) == MODELS_OF[name][2]
    heads = {key for key in ours.state_dict() if not key.startswith('backbone.')}
    assert heads == {key for key in stock if not key.startswith('backbone.')}
    if name == 'mask_rcnn':
        assert heads == mask_rcnn_heads()
        assert (len(heads), len(stock)) == (42, 231)
    if name == 'upernet':
        assert len(stock) == 271


@pytest.mark.parametrize('layout', ['openmmlab', 'official'])
def test_whole_models_load_with_no_key_missing_or_unexpected(pair, layout, tmp_path):
    """Through ``load_state_dict`` and, as mmengine does it, out of a file that was saved from a parallel wrapper."""
    _, ours, stock = pair
    state = stock if layout == 'openmmlab' else official_file(stock)
    want = to_official(stock)
    blank = {key: torch.zeros_like(value) for key, value in ours.state_dict().items()}

    ours.load_state_dict(blank, strict=True)
    ours.load_state_dict(state, strict=True)
    assert_equal(ours, want)

    ours.load_state_dict(blank, strict=True)
    file = {'meta': {'CLASSES': ('a',)}, 'state_dict': {f'module.{key}': value for key, value in state.items()}}
    torch.save(file, tmp_path / 'model.pth')
    load_checkpoint(ours, str(tmp_path / 'model.pth'), strict=True)
    assert_equal(ours, want)


def official_file(stock: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights under the names of the official repository, none more and none less."""
    official = to_official(stock)
    names = {f'backbone.{name}' for name in official_backbone()}
    for name in names - official.keys():
        assert name.endswith('relative_position_index')
        official[name] = torch.zeros(49, 49, dtype=torch.int64)
    assert {key for key in official if key.startswith('backbone.')} == names
    assert len(names) == 189
    return official


def assert_equal(model: nn.Module, want: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == want.keys()
    assert [key for key in want if not torch.equal(state[key], want[key])] == []


def test_whole_models_go_back_bitwise(pair):
    _, _, stock = pair
    back = from_official(to_official(stock), 'mmdet')
    assert back.keys() == stock.keys()
    assert [key for key in stock if 'index' not in key and not torch.equal(back[key], stock[key])] == []
