"""Training Mask R-CNN with our backbone is training it with mmdet's own: the same losses, step by step."""

import numpy as np
import pytest
import torch
from equal_weights import build_pair
from same_training import STEPS, assert_same_training, ellipses, optimizer

pytest.importorskip('mmdet')

from mmdet.datasets import CocoDataset
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

pytestmark = pytest.mark.usefixtures('float64')

OPTIMIZER = optimizer(lr=1e-4, weight_decay=0.05)
LOSSES = {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'}
SMALL = dict(embed_dims=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), drop_path_rate=0.0)
CLASSES = 4


def recipe():
    """The model of mmdet's own Mask R-CNN recipe, without weights to download."""
    model = get_config('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py').model
    model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    return model


def small(model):
    """``model`` with a small Swin, narrow heads and few samples: the same arithmetic at a fraction of its cost."""
    width = 16
    model.backbone.update(SMALL)
    model.neck.update(in_channels=[SMALL['embed_dims'] * 2**i for i in range(4)], out_channels=width)
    model.rpn_head.update(in_channels=width, feat_channels=width)
    roi = model.roi_head
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = width
    roi.bbox_head.update(in_channels=width, fc_out_channels=64, num_classes=CLASSES)
    roi.mask_head.update(in_channels=width, conv_out_channels=width, num_convs=2, num_classes=CLASSES)
    model.train_cfg.rcnn.sampler.num = 64
    return model


def drawn(rng: np.random.Generator, height: int, width: int, objects: int) -> tuple[torch.Tensor, DetDataSample]:
    """Ellipses on noise, with boxes, labels and masks."""
    image, masks = ellipses(rng, height, width, objects)
    boxes = [[*np.argwhere(m).min(0)[::-1], *(1 + np.argwhere(m).max(0)[::-1])] for m in masks]
    size = (height, width)
    sample = DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(np.array(boxes), dtype=torch.float64),
        labels=torch.from_numpy(rng.integers(0, CLASSES, objects)),
        masks=BitmapMasks(masks, height, width),
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return torch.from_numpy(image), sample


def test_ten_steps_are_the_same_training():
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(STEPS):
        images, samples = zip(*(drawn(rng, 128, 160, objects) for objects in (3, 2)), strict=True)
        batches.append((torch.stack(images), list(samples)))
    assert_same_training(*build_pair('mmdet', small(recipe())), batches, OPTIMIZER, LOSSES)


@pytest.mark.slow
def test_ten_steps_of_the_full_size_on_photographs(shared):
    """Swin-T and the recipe's own heads; four COCO pictures at a quarter of their size."""
    register_all_modules(init_default_scope=False)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=(224, 160), keep_ratio=True),
        dict(type='PackDetInputs'),
    ]
    with DefaultScope.overwrite_default_scope('mmdet'):
        root = str(shared / 'data' / 'coco_mini')
        files = dict(ann_file='annotations/instances_mini.json', data_prefix=dict(img='images/'))
        dataset = CocoDataset(data_root=root, pipeline=pipeline, **files)
        ours, stock = build_pair('mmdet', recipe())
        batches = []
        for step in range(STEPS):
            items = [dataset[i] for i in np.random.default_rng(step).permutation(len(dataset))[:2]]
            batch = {key: [item[key] for item in items] for key in items[0]}
            data = ours.data_preprocessor(batch, training=True)
            batches.append((data['inputs'].double(), data['data_samples']))
        assert_same_training(ours, stock, batches, OPTIMIZER, LOSSES)
