"""The stock Mask R-CNN of mmdet, untouched, on ops without a compiler."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData


@pytest.fixture(scope='module')
def detector():
    """Mask R-CNN with the stock Swin, two stages deep and narrow."""
    cfg = get_config('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py').model
    cfg.backbone.update(init_cfg=None, embed_dims=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4))
    cfg.neck.in_channels = [12, 24, 48, 96]
    cfg.test_cfg.rcnn.score_thr = 0.0
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        model = MODELS.build(cfg)
        model.init_weights()
    return model


def batch(boxes):
    """An image of 64 by 96 pixels with one rectangle of each box as its mask."""
    masks = np.zeros((len(boxes), 64, 96), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    sample = DetDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1, 1)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.arange(len(boxes)),
        masks=BitmapMasks(masks, 64, 96),
    )
    return dict(inputs=[torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)], data_samples=[sample])


@pytest.mark.parametrize('boxes', [[[8, 8, 40, 40], [30, 10, 90, 60]], []], ids=['two objects', 'no object'])
def test_it_trains(detector, boxes):
    data = detector.data_preprocessor(batch(boxes), training=True)
    total, _ = detector.parse_losses(detector(**data, mode='loss'))
    detector.zero_grad()
    total.backward()
    grads = {name: p.grad for name, p in detector.named_parameters() if p.requires_grad}
    assert total.isfinite()
    assert [name for name, grad in grads.items() if grad is None or not grad.isfinite().all()] == []


@torch.no_grad()
def test_it_predicts(detector):
    detector.eval()
    found = detector.test_step(batch([[8, 8, 40, 40]]))[0].pred_instances
    assert 0 < len(found) <= 100
    assert found.masks.shape == (len(found), 64, 96)
    assert (found.scores.diff() <= 0).all()
    assert (found.bboxes[:, 2:] <= torch.tensor([96.0, 64.0])).all()
