"""A data set of four made-up pictures, a very small Mask R-CNN for it, and its first epoch, trained once a session."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from swin_mm.commands import train

ROOT = Path(__file__).parents[2]
CLASSES = ('box', 'disc')
SIZES = ((96, 128), (90, 101), (128, 96), (64, 64))  # height, width: different and not all multiples of 32

MODEL = """
model = dict(
    backbone=dict(arch=None, embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=2),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16, num_classes=2),
    ),
    test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(score_thr=0.0, max_per_img=5)),
)
"""
# Lines for any recipe on COCO: one epoch of two iterations on what `write_data` writes.
DATA = f"""
data_root = 'not/here/'
resize = dict(type='Resize', scale=(128, 96), keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True), resize,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'), resize,
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [resize, dict(type='Resize', scale=(80, 60), keep_ratio=True)],
        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
        [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)], [dict(type='PackDetInputs')],
    ]),
]
dataset = dict(data_root=data_root, ann_file='instances.json', data_prefix=dict(img='images/'),
               metainfo=dict(classes={CLASSES}))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'instances.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=0)
"""
CONFIG = f"_base_ = '{ROOT}/configs/mask_rcnn_swin_t.py'\n{MODEL}{DATA}"


def write_data(folder: Path) -> Path:
    """``folder`` with four pictures of noise and bright rectangles and octagons, annotated in COCO's format."""
    random = np.random.default_rng(0)
    (folder / 'images').mkdir(parents=True)
    images, annotations = [], []
    for i, (height, width) in enumerate(SIZES):
        pixels = random.integers(0, 100, (height, width, 3), dtype=np.uint8)
        for category in (1, 2):
            w, h = random.integers(34, 45, 2)
            x, y = random.integers(0, width - w), random.integers(0, height - h)
            pixels[y : y + h, x : x + w, category] = 255
            cut = 0 if category == 1 else 8
            polygon = [x + cut, y, x + w, y, x + w, y + h - cut, x + w - cut, y + h, x, y + h, x, y + cut]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=category,
                    bbox=[int(v) for v in (x, y, w, h)],
                    area=int(w * h),
                    iscrowd=0,
                    segmentation=[[int(v) for v in polygon]],
                )
            )
        Image.fromarray(pixels).save(folder / 'images' / f'{i}.jpg')
        images.append(dict(id=i, file_name=f'{i}.jpg', height=height, width=width))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / 'instances.json').write_text(json.dumps(content))
    return folder


@functools.cache
def trained(base: Path) -> SimpleNamespace:
    """One epoch of two iterations in ``base``, trained by ``swin-mm train``: config, data, work_dir and checkpoint."""
    folder = base / 'tiny_training'
    folder.mkdir()
    config = folder / 'tiny.py'
    config.write_text(CONFIG)
    data = write_data(folder / 'data')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train.main(['tiny.py', '--cfg-options', 'data_root=data'])
    work_dir = folder / 'work_dirs' / 'tiny'
    return SimpleNamespace(config=config, data=data, work_dir=work_dir, checkpoint=work_dir / 'epoch_1.pth')
