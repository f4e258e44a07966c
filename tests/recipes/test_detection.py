"""The detection recipes against the official repository's facts (its config files, README and parity page)."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope

CONFIGS = Path(__file__).parents[2] / 'configs'


class Facts(NamedTuple):
    """What sets the official file ``alias`` apart; ``parameters`` is None where only a rounded figure is known."""

    alias: str
    arch: str
    drop_path_rate: float
    epochs: int
    parameters: int | None


MASK = 'mask_rcnn_swin_{}_patch4_window7_mstrain_480-800_adamw_{}_coco.py'
CASCADE = 'cascade_mask_rcnn_swin_{}_patch4_window7_mstrain_480-800_giou_4conv1f_adamw_{}_coco.py'
REPPOINTS = '{}_swin_tiny_patch4_window7_mstrain_480_960_giou_gfocal_bifpn_adamw_3x_coco.py'
FACTS = {
    'mask_rcnn_swin_t': Facts(MASK.format('tiny', '1x'), 'tiny', 0.1, 12, 47_794_602),
    'mask_rcnn_swin_t_3x': Facts(MASK.format('tiny', '3x'), 'tiny', 0.2, 36, 47_794_602),
    'mask_rcnn_swin_s_3x': Facts(MASK.format('small', '3x'), 'small', 0.2, 36, None),
    'cascade_mask_rcnn_swin_t': Facts(CASCADE.format('tiny', '1x'), 'tiny', 0.0, 12, 85_629_804),
    'cascade_mask_rcnn_swin_t_3x': Facts(CASCADE.format('tiny', '3x'), 'tiny', 0.2, 36, 85_629_804),
    'cascade_mask_rcnn_swin_s_3x': Facts(CASCADE.format('small', '3x'), 'small', 0.2, 36, None),
    'cascade_mask_rcnn_swin_b_3x': Facts(CASCADE.format('base', '3x'), 'base', 0.3, 36, 144_977_002),
    'reppointsv2_swin_t': Facts(REPPOINTS.format('reppoitsv2'), 'tiny', 0.2, 36, None),
    'mask_reppointsv2_swin_t': Facts(REPPOINTS.format('mask_reppoitsv2'), 'tiny', 0.2, 36, None),
}
MILESTONES = {12: [8, 11], 36: [27, 33]}
SPREADS = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])  # of a stage's offsets
every = pytest.mark.parametrize('name', FACTS)
every_rcnn = pytest.mark.parametrize('name', [name for name in FACTS if 'rcnn' in name])


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


@pytest.mark.parametrize('name', [name for name, facts in FACTS.items() if facts.parameters])
def test_it_has_the_published_number_of_parameters(name):
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(load(name).model)
    assert sum(p.numel() for p in model.parameters()) == FACTS[name].parameters


@every
def test_the_backbone_has_the_official_settings(name):
    backbone, facts = load(name).model.backbone, FACTS[name]
    assert backbone.type == 'swin_mm.SwinTransformer'
    assert (backbone.arch, backbone.drop_path_rate) == (facts.arch, facts.drop_path_rate)
    assert backbone.init_cfg.checkpoint.endswith(f'/v1.0.0/swin_{facts.arch}_patch4_window7_224.pth')


@every_rcnn
def test_all_but_the_backbone_and_the_box_heads_is_mmdets_own_recipe(name):
    """That on ResNet-50, which is also what the official configs began with."""
    pytest.importorskip('mmdet')
    family = 'cascade-mask-rcnn' if name.startswith('cascade') else 'mask-rcnn'
    ours, stock = load(name).model, get_config(f'mmdet::_base_/models/{family}_r50_fpn.py').model
    for settings in (stock.train_cfg.rpn_proposal, stock.test_cfg.rpn):
        settings.min_bbox_size = -1  # 0 had another meaning then
    stock.neck.in_channels = ours.neck.in_channels
    if family.startswith('cascade'):
        stock.roi_head.update(bbox_head=ours.roi_head.bbox_head, init_cfg=ours.roi_head.init_cfg)
    for key in ('type', 'data_preprocessor', 'neck', 'rpn_head', 'roi_head', 'train_cfg', 'test_cfg'):
        assert ours[key] == stock[key], key


@pytest.mark.parametrize('name', [name for name in FACTS if name.startswith('cascade')])
def test_box_heads_of_a_cascade_are_those_of_the_official_file(name):
    roi_head = load(name).model.roi_head
    heads = roi_head.bbox_head
    assert len(heads) == roi_head.num_stages == 3
    for head, spread in zip(heads, SPREADS, strict=True):
        assert (head.type, head.num_shared_convs, head.num_shared_fcs) == ('ConvFCBBoxHead', 4, 1)
        assert (head.norm_cfg.type, head.norm_cfg.requires_grad) == ('SyncBN', True)
        assert (head.reg_class_agnostic, head.reg_decoded_bbox) == (False, True)
        assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ('GIoULoss', 10.0)
        assert head.loss_cls == dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)
        assert head.bbox_coder.target_stds == spread


@every_rcnn
def test_the_augmentation_is_flip_and_one_of_resize_or_crop(name):
    _, _, flip, choice, _ = load(name).train_dataloader.dataset.pipeline
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)
    short_sides = [(side, 1333) for side in range(480, 801, 32)]
    (resize,), (before, crop, after) = choice.transforms
    assert [tuple(s) for s in resize.scales] == [tuple(s) for s in after.scales] == short_sides
    assert [tuple(s) for s in before.scales] == [(400, 1333), (500, 1333), (600, 1333)]
    assert (crop.crop_type, tuple(crop.crop_size)) == ('absolute_range', (384, 600))


def test_the_augmentation_of_reppoints_is_one_size_and_flip():
    boxes, masks = (
        load(name).train_dataloader.dataset.pipeline for name in ('reppointsv2_swin_t', 'mask_reppointsv2_swin_t')
    )
    assert [step.type for step in boxes[2:4]] == ['RandomChoiceResize', 'RandomFlip']
    assert [tuple(s) for s in boxes[2].scales] == [(side, 1333) for side in range(480, 961, 32)]
    assert [step.type for step in masks[2:4]] == ['RandomResize', 'RandomFlip']
    assert [tuple(s) for s in masks[2].scale] == [(1333, 480), (1333, 960)]
    assert (boxes[3].prob, masks[3].prob) == (0.5, 0.5)
    assert (boxes[2].keep_ratio, masks[2].keep_ratio) == (True, True)


@every
def test_the_schedule_is_adamw_with_500_steps_of_warmup(name):
    recipe, epochs = load(name), FACTS[name].epochs
    warmup, steps = recipe.param_scheduler
    assert (warmup.end - 1, warmup.start_factor, warmup.by_epoch) == (500, 0.001, False)
    assert (steps.end, recipe.train_cfg.max_epochs) == (epochs, epochs)
    assert (steps.milestones, steps.gamma) == (MILESTONES[epochs], 0.1)
    assert recipe.auto_scale_lr.base_batch_size == 8 * recipe.train_dataloader.batch_size == 16
    assert recipe.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)


@every
def test_the_official_file_name_exists(name):
    assert (CONFIGS / 'swin' / FACTS[name].alias).read_text().endswith(f"_base_ = '../{name}.py'\n")


# Recipes without an official file, and mmdet's own with the same heads.
OF_MMDET = {
    'faster_rcnn_swin_t': '_base_/models/faster-rcnn_r50_fpn.py',
    'cascade_rcnn_swin_t': '_base_/models/cascade-rcnn_r50_fpn.py',
    'retinanet_swin_t': '_base_/models/retinanet_r50_fpn.py',
    'atss_swin_t_3x': 'atss/atss_r50_fpn_1x_coco.py',
    'sparse_rcnn_swin_t_3x': 'sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py',
}


def said(settings):
    """``settings`` without what is off: None, sizes that filter nothing, and what only masks read."""
    if isinstance(settings, dict):
        off = ('min_bbox_size', 'mask_size', 'mask_thr_binary')
        return {key: said(value) for key, value in settings.items() if value is not None and key not in off}
    return [said(value) for value in settings] if isinstance(settings, list | tuple) else settings


@pytest.mark.parametrize('name', OF_MMDET)
def test_heads_for_boxes_alone_are_mmdets(name):
    pytest.importorskip('mmdet')
    ours, stock = load(name).model, get_config(f'mmdet::{OF_MMDET[name]}').model
    if name.startswith('cascade'):
        stock.roi_head.bbox_head = load('cascade_mask_rcnn_swin_t').model.roi_head.bbox_head
    for key in ('type', 'rpn_head', 'roi_head', 'bbox_head', 'train_cfg', 'test_cfg'):
        assert said(ours.get(key)) == said(stock.get(key)), key


@pytest.mark.parametrize('name', OF_MMDET)
def test_boxes_alone_need_no_masks(name):
    """Everything else of the data is the official recipes'."""
    recipe, with_masks = load(name), load('mask_rcnn_swin_t').to_dict()
    assert recipe.val_evaluator.metric == recipe.test_evaluator.metric == 'bbox'
    for part in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'tta_pipeline'):
        assert 'with_mask' not in str(recipe[part])
        assert str(recipe.to_dict()[part]) == str(with_masks[part]).replace(", 'with_mask': True", '')


@pytest.mark.parametrize('name', [*OF_MMDET, 'mask_rcnn_swin_b', 'mask_rcnn_swin_l'])
def test_a_recipe_of_our_choice_has_the_official_schedule(name):
    recipe, official = load(name), load('mask_rcnn_swin_t_3x' if name.endswith('_3x') else 'mask_rcnn_swin_t')
    assert recipe.param_scheduler == official.param_scheduler
    assert recipe.train_cfg == official.train_cfg
    assert recipe.optim_wrapper.optimizer == official.optim_wrapper.optimizer


@pytest.mark.parametrize('name', ['htc_swin_b', 'htc_swin_l'])
def test_htc_is_mmdets_with_soft_nms_for_72_epochs(name):
    pytest.importorskip('mmdet')
    recipe, stock = load(name), get_config('mmdet::htc/htc-without-semantic_r50_fpn_1x_coco.py').model
    ours = recipe.model
    assert ours.roi_head.pop('init_cfg').override.name == 'mask_head'  # as for Cascade Mask R-CNN
    assert ours.test_cfg.rcnn.nms.pop('type') == 'soft_nms'
    stock.test_cfg.rcnn.nms.pop('type')
    for stage in (stock.train_cfg.rpn, *stock.train_cfg.rcnn):
        stage.assigner.match_low_quality = True  # as MaxIoUAssigner has it
    for key in ('type', 'rpn_head', 'roi_head', 'train_cfg', 'test_cfg'):
        assert said(ours[key]) == said(stock[key]), key
    assert ours.backbone.init_cfg.checkpoint.endswith('_22k.pth')
    assert recipe.param_scheduler[1].milestones == [63, 69]
    assert recipe.param_scheduler[1].end == recipe.train_cfg.max_epochs == 72
