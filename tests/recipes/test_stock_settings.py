"""Recipes that follow a config of mmdet or mmseg: their settings are held against the stock one."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from samples.stock_detectors import BACKBONE, MAPS, narrow
from torch import nn

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
CONFIGS = Path(__file__).parents[2] / 'configs'


class Stock(NamedTuple):
    """The package and the config that a recipe follows."""

    package: str
    config: str


STOCK = {
    'mask2former_swin_t_instance': Stock('mmdet', 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py'),
    'mask2former_swin_t_panoptic': Stock(
        'mmdet', 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic.py'
    ),
    'mask2former_swin_t_ade20k': Stock('mmseg', 'mask2former/mask2former_swin-t_8xb2-160k_ade20k-512x512.py'),
    'dino_swin_t': Stock('mmdet', 'dino/dino-4scale_r50_8xb2-12e_coco.py'),
    'dino_swin_l': Stock('mmdet', 'dino/dino-5scale_swin-l_8xb2-12e_coco.py'),
    'rtmdet_swin_t': Stock('mmdet', 'rtmdet/rtmdet_l_swin_b_4xb32-100e_coco.py'),
    'rtmdet_swin_b': Stock('mmdet', 'rtmdet/rtmdet_l_swin_b_4xb32-100e_coco.py'),
}
STOCK_HEADS = {**STOCK, 'semantic_fpn_swin_t': Stock('mmseg', 'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py')}
OURS = {'swin_mm.LoadImage': 'LoadImageFromFile', 'swin_mm.LoadLabels': 'LoadAnnotations'}
# The stock configs state these at the values that the classes have without them.
DEFAULTS = ('init_cfg', 'backend_args', 'im2col_step', 'add_identity', 'format_only')
every = pytest.mark.parametrize('name', STOCK)
every_head = pytest.mark.parametrize('name', STOCK_HEADS)


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def stock(name: str) -> Config:
    cfg = get_config(f'{STOCK_HEADS[name].package}::{STOCK_HEADS[name].config}')
    if name in ('dino_swin_t', 'rtmdet_swin_t'):  # mmdet has these on ResNet-50 and on Swin-B only
        cfg.model.backbone = dict(type='SwinTransformer', out_indices=(1, 2, 3), drop_path_rate=0.2)
        cfg.model.neck.in_channels = [192, 384, 768]
    if name == 'dino_swin_t':
        cfg.model.num_feature_levels = 4  # DINO's own
    if name.startswith('rtmdet'):
        cfg.auto_scale_lr.base_batch_size = 4 * 32  # as its name says; mmdet's 16 is left over from another schedule
    if name == 'semantic_fpn_swin_t':  # nor does mmseg have Semantic FPN on Swin
        cfg.model.pop('pretrained')
        cfg.model.backbone = dict(drop_path_rate=0.2)
        cfg.model.neck.in_channels = [96, 192, 384, 768]
    return cfg


def build(cfg: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def said(settings):
    """``settings`` without what states a class's default, and without the scope of mmdet's types."""
    if isinstance(settings, dict):
        kept = {key: said(value) for key, value in settings.items() if value is not None and key not in DEFAULTS}
        if kept.get('resize_type') == 'Resize':
            del kept['resize_type']
        if 'attn_drop' in kept:  # MultiheadAttention's two names for its old `dropout`
            kept['dropout'] = max(kept.pop('attn_drop'), kept.pop('proj_drop'))
        if 'type' in kept:
            kept['type'] = OURS.get(kept['type'], kept['type'].removeprefix('mmdet.'))
        return kept
    return [said(value) for value in settings] if isinstance(settings, list | tuple) else settings


@every_head
def test_all_but_the_backbone_is_the_stock_model(name):
    ours, theirs = said(load(name).model.to_dict()), said(stock(name).model.to_dict())
    assert ours.pop('backbone')['drop_path_rate'] == theirs.pop('backbone')['drop_path_rate']
    assert ours == theirs


@every
def test_rates_and_decay_of_all_parameters_are_the_stock_config_s(name):
    """As counts by rate and decay: the stock backbone has other names."""

    def counts(cfg: Config) -> Counter:
        found = Counter()
        for group in build_optim_wrapper(build(cfg), cfg.optim_wrapper).optimizer.param_groups:
            found[group['lr'], group['weight_decay']] += sum(p.numel() for p in group['params'])
        return found

    assert counts(load(name)) == counts(stock(name))


@every
def test_schedule_and_clipping_are_the_stock_config_s(name):
    ours, theirs = load(name), stock(name)
    for key in ('param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg'):
        assert said(ours[key]) == said(theirs[key]), key
    for key in ('optimizer', 'clip_grad'):
        assert said(ours.optim_wrapper.get(key)) == said(theirs.optim_wrapper.get(key)), key
    assert ours.auto_scale_lr.base_batch_size == theirs.auto_scale_lr.base_batch_size


@every
def test_data_are_the_stock_config_s(name):
    def plain(cfg: Config, part: str) -> dict:
        loader = said(cfg[part].to_dict())
        for step in loader['dataset']['pipeline']:
            step.pop('num_classes', None)  # of our check of labels
            step.pop('reduce_zero_label', None)  # our loader counts from 1 always
        loader['dataset'].pop('data_root')
        if name.endswith('instance'):
            loader['dataset']['data_prefix'].pop('seg', None)  # left over from mmdet's panoptic config
        return {key: loader[key] for key in ('batch_size', 'sampler', 'dataset')}

    ours, theirs = load(name), stock(name)
    for part in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert plain(ours, part) == plain(theirs, part)
    for part in ('val_evaluator', 'test_evaluator'):
        assert said(ours[part]) == said(theirs[part])


@pytest.mark.parametrize('name', [name for name in STOCK if name.startswith('rtmdet')])
def test_weights_are_averaged_and_the_last_epochs_are_plain_as_in_the_stock_config(name):
    ours, theirs = load(name).default_hooks, stock(name).custom_hooks
    assert said([ours.ema, ours.plain]) == said(theirs)


def detector_inputs(name: str) -> dict:
    from mmdet.testing import demo_mm_inputs

    parts = dict(with_mask='dino' not in name, with_semantic='panoptic' in name)
    return demo_mm_inputs(2, [(3, 64, 64)] * 2, num_items=[3, 3], num_classes=3, **parts)


def segmentor_inputs(name: str) -> dict:
    from mmseg.structures import SegDataSample

    metainfo = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64))
    labels = [torch.randint(0, 3, (1, 64, 64)) for _ in range(2)]
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one), metainfo=metainfo) for one in labels]
    return dict(inputs=list(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)), data_samples=samples)


# test_small_runs.py trains RTMDet.
@pytest.mark.parametrize('name', [name for name in STOCK_HEADS if not name.startswith('rtmdet')])
def test_it_trains_two_steps_and_predicts(name):
    """A narrow model on two pictures of noise, by the recipe's own optimizer."""
    cfg = load(name)
    cfg.model.backbone = dict(BACKBONE, out_indices=cfg.model.backbone.get('out_indices', (0, 1, 2, 3)))
    maps = MAPS[-len(cfg.model.backbone.out_indices) :]
    if 'neck' in cfg.model:
        cfg.model.neck.in_channels = maps
    else:
        narrow(cfg.model, maps)
    if name.startswith('dino'):  # its decoder takes 256 channels only, and 900 queries want as many places
        cfg.model.num_queries = 30
        cfg.model.encoder.num_layers, cfg.model.decoder.num_layers = 1, 2
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.data_preprocessor.pop('batch_augments', None)  # they fill up to 1024x1024
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.init_weights()
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
        inputs = segmentor_inputs(name) if cfg.default_scope == 'mmseg' else detector_inputs(name)
        before = {key: value.clone() for key, value in model.backbone.named_parameters()}
        for _ in range(2):
            losses = model.train().train_step(inputs, optimizer)
            assert all(value.isfinite().all() for value in losses.values())
        for key, value in model.backbone.named_parameters():
            assert value.isfinite().all()
            assert not value.equal(before[key]), key
        results = model.eval().test_step(inputs)
    assert len(results) == 2
    if cfg.default_scope == 'mmseg':
        assert results[0].pred_sem_seg.data.shape == (1, 64, 64)
    elif 'panoptic' in name:
        assert results[0].pred_panoptic_seg.sem_seg.shape == (1, 64, 64)
    elif 'dino' in name:
        assert results[0].pred_instances.bboxes.shape == (300, 4)
    else:
        assert results[0].pred_instances.masks.shape[1:] == (64, 64)
