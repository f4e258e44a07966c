"""What holds for every recipe, whatever its task."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from swin_mm.recipes import settings_within

CONFIGS = Path(__file__).parents[2] / 'configs'
RECIPES = sorted(path.name for path in CONFIGS.glob('*.py'))
# Names of parameters; those of the second line are V2's.
WITHOUT_DECAY = ('norm', 'relative_position_bias_table', 'absolute_pos_embed')
WITHOUT_DECAY += ('logit_scale', 'cpb_mlp', 'q_bias', 'v_bias')
ALIASES = sorted(path.name for path in CONFIGS.glob('swin/*.py'))


def build(cfg: Config) -> nn.Module:
    """The model, without memory for its weights."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('path', sorted(p.relative_to(CONFIGS) for p in CONFIGS.rglob('*.py')), ids=str)
def test_it_needs_no_other_package_s_config(path):
    text = (CONFIGS / path).read_text()
    assert '::' not in text  # an inherited config of site-packages may be missing or differ


@pytest.mark.parametrize('name', RECIPES)
def test_it_says_how_to_run_it_and_what_to_expect(name):
    text = (CONFIGS / name).read_text()
    assert text.startswith('"""')
    assert f'tools/train.py configs/{name}' in text
    assert 'Expected' in text


@pytest.mark.parametrize('name', RECIPES)
def test_it_has_the_parameters_it_says_and_trains_all_of_them(name):
    """With Swin's rules norms and position parameters do not decay, everything else does. All layers have one rate,
    or each its own.
    """
    cfg = Config.fromfile(CONFIGS / name)
    model = build(cfg)
    if stated := re.search(r'(\d+)M parameters', (CONFIGS / name).read_text()):
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == int(stated[1])

    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    decay = {names[id(p)]: group['weight_decay'] for group in groups for p in group['params']}
    assert decay.keys() == set(names.values())
    keys = cfg.optim_wrapper.paramwise_cfg.get('custom_keys')
    if keys is None or 'backbone' in keys:
        return  # rates and decay are mmdet's, which test_stock_settings.py holds
    if 'layer_decay' not in cfg.optim_wrapper.paramwise_cfg:
        assert {group['lr'] for group in groups} == {cfg.optim_wrapper.optimizer.lr}
    for parameter, value in decay.items():
        exempt = any(key in parameter for key in WITHOUT_DECAY)
        assert value == (0.0 if exempt else cfg.optim_wrapper.optimizer.weight_decay), parameter


@pytest.mark.parametrize('name', RECIPES)
def test_its_heads_fit_its_backbone(name):
    cfg = Config.fromfile(CONFIGS / name)
    channels = build(cfg).backbone.out_channels
    (first, *_) = (cfg.model[part] for part in ('neck', 'panoptic_head', 'decode_head') if part in cfg.model)
    assert list(first.in_channels) == list(channels)
    if 'auxiliary_head' in cfg.model:
        assert cfg.model.auxiliary_head.in_channels == channels[cfg.model.auxiliary_head.in_index]
        assert cfg.model.auxiliary_head.num_classes == cfg.model.decode_head.num_classes


@pytest.mark.parametrize('name', [name for name in RECIPES if not name.startswith('rtmdet')])  # of mmdet 3 itself
def test_empty_proposals_are_kept_as_officially(name):
    """The official configs say 0, which dropped none then; mmdet 3.3 drops empty boxes for 0 and none below it."""
    sizes = [part.get('min_bbox_size') for _, part in settings_within(Config.fromfile(CONFIGS / name).model, 'model')]
    assert [size for size in sizes if size is not None and size >= 0] == []


@pytest.mark.parametrize('name', ALIASES)
def test_an_official_name_is_one_of_our_recipes(name):
    alias = CONFIGS / 'swin' / name
    assert len(alias.read_text().splitlines()) == 2
    (base,) = re.findall(r"_base_ = '\.\./(\w+\.py)'", alias.read_text())
    assert base in RECIPES
    assert Config.fromfile(alias).to_dict() == Config.fromfile(CONFIGS / base).to_dict()
