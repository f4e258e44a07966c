"""mmdet's own configs with our backbone in the place of theirs, made narrow, and random weights for them."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from swin_mm.recipes import settings_within

WIDTH = 32  # of every layer behind the backbone: the groups of a GroupNorm, a multiple of 8 heads of attention
MAPS = [8, 16, 32, 64]  # channels of the backbone's maps
BACKBONE = dict(type='swin_mm.SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
FINDS_ALL = dict(score_thr=0.0, object_mask_thr=0.0, iou_thr=0.0, stuff_area_limit=1)  # random weights are unsure
STOCK = {
    'mask_rcnn': 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'htc': 'htc/htc_r50_fpn_1x_coco.py',
    'retinanet': 'swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
    'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'solo': 'solo/solo_r50_fpn_1x_coco.py',
    'mask2former': 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py',
    'mask2former_panoptic': 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic.py',
    'maskformer': 'maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    'panoptic_fpn': 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
}


def write_config(folder: Path, name: str) -> Config:
    """Inherits ``STOCK[name]`` by the two lines of a drop-in, narrows it, and makes pictures 128x96."""
    path = folder / f'{name}.py'
    path.write_text(f"_base_ = 'mmdet::{STOCK[name]}'\nmodel = dict(backbone=dict(_delete_=True, **{BACKBONE!r}))\n")
    cfg = Config.fromfile(path)
    used = len(cfg.model.neck.in_channels) if 'neck' in cfg.model else 4
    cfg.model.backbone.out_indices = tuple(range(4 - used, 4))
    narrow(cfg.model, MAPS[-used:])
    for _, part in settings_within(cfg.model.test_cfg, 'test_cfg'):
        part.update({key: value for key, value in FINDS_ALL.items() if key in part or 'panoptic_on' in part})
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (128, 96)
    return cfg


def narrow(settings: Any, maps: list[int]) -> None:
    """Gives every layer of 96 channels or more `WIDTH`, and the channels of ``maps`` to what takes them."""
    for key in settings if isinstance(settings, dict) else range(len(settings)):
        value = settings[key]
        if key == 'in_channels' and isinstance(value, list):
            settings[key] = list(maps)
        elif key == 'num_feats':
            settings[key] = WIDTH // 2  # of a sine and a cosine
        elif isinstance(value, dict | list):
            narrow(value, maps)
        elif isinstance(key, str) and key.endswith(('channels', 'dims')) and isinstance(value, int) and value >= 96:
            settings[key] = WIDTH


def save_random_weights(cfg: Config, folder: Path) -> Path:
    """Writes a checkpoint of random weights of the model of ``cfg``, and nothing else."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)  # answers as large as what is asked: neighbours differ
    if hasattr(model, 'panoptic_head'):
        model.panoptic_head.cls_embed.bias.data[-1] = -100  # no query stands for nothing
    torch.save(model.state_dict(), folder / 'random.pth')
    return folder / 'random.pth'
