"""Recipes learn four pictures of COCO by heart: what a model is trained on is what CocoMetric measures it by.

Heads, losses and assignment are the recipe's, at a reduced size: a narrow Swin without pretrained weights, narrow
layers behind it, small pictures without augmentation, all four in each step, and one learning rate for all parameters.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
from mmengine.config import Config
from samples.narrow_recipes import narrow

from swin_mm.commands import test, train

ROOT = Path(__file__).parents[2]
BACKBONE = dict(embed_dims=32, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8), drop_path_rate=0.0)
SAMPLES = 64  # boxes of an image that a head with RoIs learns from
FALL = 40  # last steps, in which the rate falls to 0


class Training(NamedTuple):
    """How many steps a recipe is trained, at which learning rate, and the largest (width, height) of its pictures."""

    steps: int
    rate: float
    sides: tuple[int, int] = (320, 224)


TRAININGS = {
    # In smaller pictures no anchor overlaps the smallest persons by the 0.3 that the recipe wants.
    'cascade_mask_rcnn_swin_t': Training(100, 1e-3, sides=(512, 352)),
    'reppointsv2_swin_t': Training(100, 1e-3),
    'mask2former_swin_t_instance': Training(160, 1e-3),
    'dino_swin_t': Training(160, 4e-4),
}


def config(name: str, pictures: Path) -> str:
    """The recipe ``name`` at a reduced size, trained and measured on the folder ``pictures``."""
    steps, rate, sides = TRAININGS[name]
    base = ROOT / f'configs/{name}.py'
    recipe = Config.fromfile(base)
    model = narrow(recipe.model, backbone=BACKBONE, width=64, hidden=256, classes=1, queries=50)
    if 'roi_head' in model:
        for stage in model['train_cfg']['rcnn']:
            stage['sampler']['num'] = SAMPLES
    optimizer = dict(recipe.optim_wrapper.optimizer.to_dict(), lr=rate, weight_decay=0.0)
    return f"""
_base_ = '{base}'
model = {dict(model, _delete_=True)}
load, resize = dict(type='LoadImageFromFile'), dict(type='Resize', scale={sides}, keep_ratio=True)
labels = dict(type='LoadAnnotations', with_bbox=True, with_mask={'mask' in name})
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
dataset = dict(
    data_root='{pictures}', ann_file='annotations/instances_mini.json', data_prefix=dict(img='images/'),
    metainfo=dict(classes=('person',)),
)
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=[load, labels, resize, dict(type='PackDetInputs')], **dataset),
)
val_dataloader = test_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=[load, resize, dict(type='PackDetInputs', meta_keys=keys)], **dataset),
)
val_evaluator = test_evaluator = dict(ann_file='{pictures}/annotations/instances_mini.json')
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer={optimizer}, clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False, begin={steps - FALL}, end={steps}),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={steps}, val_interval={steps})
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval={steps})
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', TRAININGS)
def test_it_learns_four_pictures_by_heart(name, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('small.py').write_text(config(name, shared / 'data/coco_mini'))
    train.main(['small.py'])
    metrics = test.main(['small.py', f'work_dirs/small/iter_{TRAININGS[name].steps}.pth'])
    assert metrics['coco/bbox_mAP_50'] >= 0.9
