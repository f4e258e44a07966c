"""Configs are found by any of their names, and read alike in text and in Python's own syntax."""

import os
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from swin_mm import recipes
from swin_mm.errors import PreflightError
from swin_mm.recipes import (
    datasets_in,
    find_config,
    known_recipes,
    move_data_root,
    settings_within,
    short_name,
    type_name,
)

OFFICIAL = 'mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_1x_coco'


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('configs/mask_rcnn_swin_t.py', 'mask_rcnn_swin_t.py'),
        ('mask_rcnn_swin_t.py', 'mask_rcnn_swin_t.py'),
        ('mask_rcnn_swin_t', 'mask_rcnn_swin_t.py'),
        (f'configs/swin/{OFFICIAL}.py', f'swin/{OFFICIAL}.py'),
        (f'{OFFICIAL}.py', f'swin/{OFFICIAL}.py'),
        (OFFICIAL, f'swin/{OFFICIAL}.py'),
    ],
)
def test_a_recipe_is_found_from_anywhere_by_path_file_name_and_name(name, found, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == root / 'configs' / found


@pytest.mark.parametrize('place', ['mask_rcnn_swin_t.py', 'configs/mask_rcnn_swin_t.py'])
@pytest.mark.parametrize('name', ['mask_rcnn_swin_t', 'mask_rcnn_swin_t.py'])
def test_what_is_here_comes_first(place, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').mkdir()
    (tmp_path / place).touch()
    assert os.path.samefile(find_config(name), tmp_path / place)
    assert find_config(tmp_path / place) == tmp_path / place


def test_a_recipe_has_a_short_name_and_any_other_config_its_path(root, tmp_path):
    assert short_name(root / 'configs/mask_rcnn_swin_t.py') == 'mask_rcnn_swin_t'
    assert short_name(root / f'configs/swin/{OFFICIAL}.py') == OFFICIAL
    assert short_name(tmp_path / 'mine.py') == str(tmp_path / 'mine.py')


def test_a_wheel_has_its_recipes_where_mmengine_looks(tmp_path, monkeypatch):
    wheel = tmp_path / '.mim/configs'
    wheel.mkdir(parents=True)
    (wheel / 'mask_rcnn_swin_t.py').touch()
    monkeypatch.setattr(recipes, '_CLONE', tmp_path / 'configs')
    (tmp_path / 'configs/_base_').mkdir(parents=True)  # somebody else's, beside the package
    monkeypatch.setattr(recipes, '_WHEEL', wheel)
    monkeypatch.chdir(tmp_path)
    assert find_config('mask_rcnn_swin_t') == wheel / 'mask_rcnn_swin_t.py'
    assert known_recipes() == [wheel / 'mask_rcnn_swin_t.py']


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('mask_rcn_swin_t', 'did you mean mask_rcnn_swin_t or '),
        ('configs/upernet_swin_xl.py', 'did you mean upernet_swin_'),
        ('zzz', r'\(`swin-mm recipes` lists them\)'),
        ('', r'config \. was found neither'),
        ('configs', 'config configs was found neither'),
        ('~nosuchuser/x.py', 'was found neither'),
        ('x' * 300, 'was found neither'),
    ],
)
def test_a_typo_is_answered_with_the_nearest_names(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PreflightError, match=words) as caught:
        find_config(name)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    'base', ['swin_mm::mask_rcnn_swin_t.py', 'swin_mm::mask_rcnn_swin_t', f'swin_mm::swin/{OFFICIAL}.py']
)
def test_a_config_of_anybody_inherits_a_recipe(base, tmp_path):
    (tmp_path / 'mine.py').write_text(f"_base_ = '{base}'\nmodel = dict(backbone=dict(drop_path_rate=0.3))\n")
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == ('tiny', 0.3)
    assert cfg.model.type == 'MaskRCNN'
    assert '_scope_' not in cfg.model


def test_a_base_that_is_no_recipe_is_named(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = 'swin_mm::mask_rcnn_swin_tt.py'\n")
    with pytest.raises(PreflightError, match='did you mean mask_rcnn_swin_t'):
        Config.fromfile(tmp_path / 'mine.py')


PYTHON_CONFIG = """
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler, RepeatDataset
from mmengine.model.weight_init import PretrainedInit
from mmengine.optim import AmpOptimWrapper
from torch.nn import SyncBatchNorm

with read_base():
    from .base import *

optim_wrapper = dict(type=AmpOptimWrapper)
model = dict(norm=[dict(type=SyncBatchNorm)], init_cfg=dict(type=PretrainedInit, checkpoint='gone.pth'))
train_dataloader = dict(
    dataset=dict(type=RepeatDataset, times=2, dataset=dict(type='mmdet.CocoDataset', ann_file='a.json'))
)
"""


def test_the_data_of_a_config_in_pythons_syntax_are_moved_and_it_can_be_written(tmp_path):
    (tmp_path / 'base.py').write_text("data_root = 'data/coco/'\n")
    lines = PYTHON_CONFIG.replace("ann_file='a.json'", "ann_file='data/coco/a.json'")
    (tmp_path / 'mine.py').write_text(lines)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    move_data_root(cfg, 'data/coco/again')
    assert cfg.train_dataloader.dataset.dataset.ann_file == 'data/coco/again/a.json'
    cfg.dump(tmp_path / 'dumped.py')
    assert 'mmengine.dataset' in (tmp_path / 'dumped.py').read_text()


def test_types_are_read_from_texts_and_classes_alike(tmp_path):
    (tmp_path / 'base.py').write_text('x = 1\n')
    (tmp_path / 'mine.py').write_text(PYTHON_CONFIG)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert type_name(cfg.optim_wrapper) == 'AmpOptimWrapper'
    assert [type_name(part) for _, part in settings_within(cfg.model, 'model')] == [
        '',
        'SyncBatchNorm',
        'PretrainedInit',
    ]
    (inner,) = datasets_in(cfg.train_dataloader.dataset)
    assert type_name(inner) == 'CocoDataset'
    assert type_name(cfg.train_dataloader.dataset) == 'RepeatDataset'
    assert type_name(None) == type_name({}) == ''
    assert type_name(dict(type=7)) == ''
    assert type_name(dict(type='swin_mm.LoadLabels')) == type_name(dict(type='LoadLabels')) == 'LoadLabels'


def test_data_sets_are_found_inside_wrappers_of_settings_and_of_objects():
    a, b, c = (dict(type='CocoDataset', ann_file=name) for name in 'abc')
    wrapped = dict(type='ConcatDataset', datasets=[a, dict(type='RepeatDataset', dataset=b), c])
    assert list(datasets_in(wrapped)) == [a, b, c]
    x, y, z = (SimpleNamespace(name=name) for name in 'xyz')
    built = SimpleNamespace(datasets=[x, SimpleNamespace(dataset=SimpleNamespace(datasets=[y, z]))])
    assert list(datasets_in(built)) == [x, y, z]
    assert list(datasets_in(dict(type='ConcatDataset', datasets=[]))) == []
