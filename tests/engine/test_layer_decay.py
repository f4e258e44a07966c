"""Each layer of Swin has the learning rate that SimMIM's fine-tuning gives it, and heads the full one."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from samples.tiny_training import ROOT
from torch import nn

from swin_mm.engine.layer_decay import depths_of

DECAY, LR = 0.8, 1e-3
# Names inside the backbone, and the layer that SimMIM's rule gives them for depths 2, 2, 6, 2.
LAYERS = {
    'patch_embed.proj.weight': 0,
    'patch_embed.norm.bias': 0,
    'layers.0.blocks.0.attn.qkv.weight': 1,
    'layers.0.blocks.1.attn.relative_position_bias_table': 2,
    'layers.0.downsample.reduction.weight': 2,
    'layers.1.blocks.0.norm1.weight': 3,
    'layers.1.downsample.norm.weight': 4,
    'layers.2.blocks.5.mlp.fc2.bias': 10,
    'layers.2.downsample.reduction.weight': 10,
    'layers.3.blocks.1.mlp.fc1.weight': 12,
    'norm0.weight': 13,
    'norm3.bias': 13,
}


def rates(recipe: str, **paramwise) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of each parameter of a recipe's model."""
    cfg = Config.fromfile(ROOT / 'configs' / recipe)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        model = MODELS.build(cfg.model)
    settings = cfg.optim_wrapper
    settings.constructor = 'swin_mm.LayerDecayConstructor'
    settings.optimizer.lr = LR
    settings.paramwise_cfg.update(paramwise)
    groups = build_optim_wrapper(model, settings).optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    assert found.keys() == set(names.values())
    return found


@pytest.mark.parametrize('recipe', ['mask_rcnn_swin_t.py', 'upernet_swin_t.py'])
def test_each_layer_has_its_rate(recipe):
    found = rates(recipe, layer_decay=DECAY)
    for name, layer in LAYERS.items():
        assert found[f'backbone.{name}'][0] == pytest.approx(LR * DECAY ** (13 - layer)), name
    assert {rate for name, (rate, _) in found.items() if not name.startswith('backbone.')} == {LR}
    plain = rates(recipe, layer_decay=1.0)
    assert {name: decay for name, (_, decay) in found.items()} == {name: decay for name, (_, decay) in plain.items()}
    assert {rate for rate, _ in plain.values()} == {LR}


def test_a_rate_of_a_key_is_a_part_of_that_of_its_layer():
    keys = {'norm': dict(decay_mult=0.0), 'fc1': dict(lr_mult=0.5)}
    found = rates('upernet_swin_t.py', layer_decay=DECAY, custom_keys=keys)
    assert found['backbone.layers.0.blocks.0.mlp.fc1.weight'][0] == pytest.approx(LR * 0.5 * DECAY**12)
    assert found['backbone.layers.0.blocks.0.norm1.weight'] == (pytest.approx(LR * DECAY**12), 0.0)


@pytest.mark.parametrize('decay', [None, 0, 1.5, 'half'])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r'paramwise_cfg\.layer_decay must be in \(0, 1\], got layer_decay='):
        rates('upernet_swin_t.py', layer_decay=decay)


def test_another_backbone_is_refused():
    with pytest.raises(ValueError, match=r'needs a swin_mm\.SwinTransformer as backbone'):
        depths_of(name for name, _ in nn.Sequential(nn.Linear(2, 2)).named_parameters())
