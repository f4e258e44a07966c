"""Four made-up pictures with label maps, a very small UPerNet for them, and its first two iterations."""

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from samples.tiny_training import ROOT, SIZES

from swin_mm.commands import train as train_command

CLASSES = ('box', 'sky', 'rest')
LONG, SHORT = 256, 64  # what a test resizes a picture into
RATIOS = (0.5, 1.25)

CONFIG = f"""
_base_ = '{ROOT}/configs/upernet_swin_t.py'
data_root = 'not/here/'
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(arch=None, embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), init_cfg=None),
    decode_head=dict(in_channels=[8, 16, 32, 64], channels=8, num_classes={len(CLASSES)}),
    auxiliary_head=dict(in_channels=32, channels=8, num_classes={len(CLASSES)}),
)
load_labels = dict(type='swin_mm.LoadLabels', num_classes={len(CLASSES)})
train_pipeline = [
    dict(type='LoadImageFromFile'), load_labels,
    dict(type='RandomResize', scale=({LONG}, {SHORT}), ratio_range=(1.0, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64)), dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=({LONG}, {SHORT}), keep_ratio=True), load_labels,
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(int({LONG} * r), int({SHORT} * r)), keep_ratio=True) for r in {RATIOS}],
        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
        [load_labels], [dict(type='PackSegInputs')],
    ]),
]
dataset = dict(type='BaseSegDataset', data_root=data_root, reduce_zero_label=True,
               data_prefix=dict(img_path='images', seg_map_path='labels'),
               metainfo=dict(classes={CLASSES}, palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)]))
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
randomness = dict(seed=0)
"""


def write_data(folder: Path) -> Path:
    """``folder`` with pictures of noise, a bright box in each, and label files: 0 ignored, 1 + the index in CLASSES."""
    random = np.random.default_rng(0)
    for name in ('images', 'labels'):
        (folder / name).mkdir(parents=True)
    for i, (height, width) in enumerate(SIZES):
        pixels = random.integers(0, 100, (height, width, 3), dtype=np.uint8)
        labels = np.full((height, width), 3, dtype=np.uint8)
        labels[: height // 3] = 2
        y, x = random.integers(0, (height - 40, width - 40))
        pixels[y : y + 40, x : x + 40, 0] = 255
        labels[y : y + 40, x : x + 40] = 1
        labels[-5:] = 0
        Image.fromarray(pixels).save(folder / f'images/{i}.jpg')
        Image.fromarray(labels).save(folder / f'labels/{i}.png')
    return folder


@functools.cache
def trained(base: Path) -> SimpleNamespace:
    """Two iterations in ``base``, trained by tools/train.py: config, data, work_dir and checkpoint."""
    folder = base / 'tiny_segmentation'
    folder.mkdir()
    config = folder / 'tiny.py'
    config.write_text(CONFIG)
    data = write_data(folder / 'data')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_command.main(['tiny.py', '--cfg-options', 'data_root=data'])
    work_dir = folder / 'work_dirs' / 'tiny'
    return SimpleNamespace(config=config, data=data, work_dir=work_dir, checkpoint=work_dir / 'iter_2.pth')
