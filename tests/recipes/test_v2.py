"""The recipes of Swin V2: those of V1 but for the backbone, its weights and what does not decay."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from swin_mm import SwinTransformerV2
from swin_mm.checkpoints.published import BY_URL

CONFIGS = Path(__file__).parents[2] / 'configs'
FAMILIES = {'mask_rcnn': 'mask_rcnn_swin_t', 'upernet': 'upernet_swin_t'}
SIZES = {'t': 'tiny', 's': 'small', 'b': 'base'}
RECIPES = [(family, size) for family in FAMILIES for size in SIZES]
every = pytest.mark.parametrize(('family', 'size'), RECIPES)


def load(family: str, size: str) -> Config:
    return Config.fromfile(CONFIGS / f'{family}_swin_v2_{size}.py')


@every
def test_weights_and_backbone_belong_together(family, size):
    cfg = load(family, size).model.backbone
    published = BY_URL[cfg.init_cfg.checkpoint]
    with torch.device('meta'):
        net = MODELS.build(cfg)
    assert type(net) is SwinTransformerV2
    assert cfg.arch == published.arch == SIZES[size]
    assert published.window == 8
    assert {block.attn.window for stage in net.layers for block in stage.blocks} == {(8, 8)}
    assert {stage.blocks[0].attn.relative_coords_table.shape[1:3] for stage in net.layers} == {(15, 15)}


@every
def test_all_but_the_backbone_and_the_decay_is_v1s(family, size):
    ours, theirs = load(family, size).to_dict(), Config.fromfile(CONFIGS / f'{FAMILIES[family]}.py').to_dict()
    new = {'logit_scale', 'cpb_mlp', 'q_bias', 'v_bias'}
    for cfg in (ours, theirs):
        keys = cfg['optim_wrapper']['paramwise_cfg']['custom_keys']
        assert cfg is theirs or new <= set(keys)
        for key in new & set(keys):
            assert keys.pop(key) == dict(decay_mult=0.0)
        for name in ('pretrained', 'exempt', 'filename'):
            cfg.pop(name, None)
        cfg['model'].pop('backbone')
        for head in ('neck', 'decode_head', 'auxiliary_head'):
            cfg['model'].get(head, {}).pop('in_channels', None)
    assert ours == theirs
