"""The detection recipes against the official repository's facts (its config files, README and parity page)."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def recipe() -> Config:
    return Config.fromfile(CONFIGS / 'mask_rcnn_swin_t.py')


def test_it_has_the_published_number_of_parameters(recipe):
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(copy.deepcopy(recipe.model))
    assert sum(p.numel() for p in model.parameters()) == 47_794_602  # "48M" in the official table


def test_every_part_has_the_official_settings(recipe):
    backbone = recipe.model.backbone
    assert backbone.type == 'swin_mm.SwinTransformer'
    assert (backbone.arch, backbone.drop_path_rate) == ('tiny', 0.1)  # 0.2 is the 3x recipe's
    assert backbone.init_cfg.checkpoint.endswith('/v1.0.0/swin_tiny_patch4_window7_224.pth')
    assert recipe.model.rpn_head.anchor_generator.scales == [8]
    assert recipe.model.test_cfg.rcnn.score_thr == 0.05


def test_the_augmentation_is_flip_and_one_of_resize_or_crop(recipe):
    _, _, flip, choice, _ = recipe.train_pipeline
    assert (flip.type, flip.prob) == ('RandomFlip', 0.5)
    short_sides = [(side, 1333) for side in range(480, 801, 32)]
    (resize,), (before, crop, after) = choice.transforms
    assert [tuple(s) for s in resize.scales] == [tuple(s) for s in after.scales] == short_sides
    assert [tuple(s) for s in before.scales] == [(400, 1333), (500, 1333), (600, 1333)]
    assert (crop.crop_type, tuple(crop.crop_size)) == ('absolute_range', (384, 600))


def test_the_schedule_is_12_epochs_of_adamw_with_500_steps_of_warmup(recipe):
    warmup, steps = recipe.param_scheduler
    assert (warmup.end - 1, warmup.start_factor, warmup.by_epoch) == (500, 0.001, False)
    assert (steps.milestones, steps.gamma, recipe.train_cfg.max_epochs) == ([8, 11], 0.1, 12)
    assert recipe.auto_scale_lr.base_batch_size == 8 * recipe.train_dataloader.batch_size == 16
    assert recipe.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)


def test_the_official_file_name_exists():
    name = 'mask_rcnn_swin_tiny_patch4_window7_mstrain_480-800_adamw_1x_coco.py'
    assert (CONFIGS / 'swin' / name).read_text().endswith("_base_ = '../mask_rcnn_swin_t.py'\n")
