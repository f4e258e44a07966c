"""Training Mask R-CNN with our backbone is training it with mmdet's own: the same losses, step by step."""

import copy
import math

import numpy as np
import pytest
import torch
from convert import to_mmdet, to_official

from swin_mm import SwinTransformer

pytest.importorskip('mmdet')

from mmdet.datasets import CocoDataset
from mmdet.models.backbones.swin import SwinTransformer as MMDetSwin
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

STEPS = 10
LR = 1e-4
# That of the official recipes: linear layers decay with their biases, norms and position tables do not.
OPTIMIZER = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=LR, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
)
SMALL = dict(embed_dims=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), drop_path_rate=0.0)
CLASSES = 4


@pytest.fixture(autouse=True)
def _float64():
    """What mmdet creates on its way (anchors, targets) is float64 as well."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


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


def build_pair(model):
    """Two detectors of equal weights in float64: one with our backbone, one with mmdet's."""
    detectors = []
    for kind in ('swin_mm.SwinTransformer', 'mmdet.SwinTransformer'):
        model.backbone.type = kind
        with DefaultScope.overwrite_default_scope('mmdet'):
            detectors.append(MODELS.build(copy.deepcopy(model)).double().train())
    ours, stock = detectors
    assert (type(ours.backbone), type(stock.backbone)) == (SwinTransformer, MMDetSwin)
    for name, parameter in ours.backbone.named_parameters():
        if parameter.ndim == 1 or 'table' in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    heads = {name: value for name, value in ours.state_dict().items() if not name.startswith('backbone.')}
    backbone = {f'backbone.{name}': value for name, value in to_mmdet(ours.backbone.state_dict()).items()}
    missing, unexpected = stock.load_state_dict({**heads, **backbone}, strict=False)
    assert unexpected == []
    assert all(name.endswith('relative_position_index') for name in missing)
    return ours, stock


def drawn(rng: np.random.Generator, height: int, width: int, objects: int) -> tuple[torch.Tensor, DetDataSample]:
    """Ellipses on noise, with boxes, labels and masks."""
    image = rng.normal(size=(3, height, width))
    rows, columns = np.mgrid[:height, :width]
    masks = np.zeros((objects, height, width), np.uint8)
    for k in range(objects):
        y, x = rng.uniform(0.25, 0.75, 2) * (height, width)
        a, b = rng.uniform(0.1, 0.3, 2) * (height, width)
        masks[k] = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1
        image[k % 3] += 2 * masks[k]
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


def train(detector, batches) -> list[dict[str, float]]:
    """The losses of each step."""
    optimizer = build_optim_wrapper(detector, OPTIMIZER)
    history = []
    for step, (images, samples) in enumerate(batches):
        torch.manual_seed(step)  # the samplers of proposals draw
        total, losses = detector.parse_losses(detector.loss(images, copy.deepcopy(samples)))
        optimizer.update_params(total)
        history.append({name: value.item() for name, value in losses.items()})
    return history


def assert_same_training(ours, stock, batches) -> None:
    start = {name: value.detach().clone() for name, value in ours.named_parameters()}
    mine, theirs = train(ours, batches), train(stock, batches)
    loss_error = 0.0
    for a, b in zip(mine, theirs, strict=True):
        assert a.keys() == b.keys() >= {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'}
        assert all(math.isfinite(value) and value > 0 for name, value in b.items() if name.startswith('loss'))
        loss_error = max(loss_error, *(abs(a[name] - b[name]) / max(abs(b[name]), 1e-12) for name in b))

    end = to_official({name.removeprefix('backbone.'): value for name, value in stock.named_parameters()})
    steps = {name.removeprefix('backbone.'): (value, start[name]) for name, value in ours.named_parameters()}
    weight_error = max((value - end[name]).abs().max().item() for name, (value, _) in steps.items()) / LR
    print(f'largest relative difference of a loss {loss_error:.1e}; of a weight, in learning rates, {weight_error:.1e}')
    assert loss_error < 1e-8
    assert weight_error < 1e-6
    assert [name for name, (value, before) in steps.items() if torch.equal(value, before)] == []


def test_ten_steps_are_the_same_training():
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(STEPS):
        images, samples = zip(*(drawn(rng, 128, 160, objects) for objects in (3, 2)), strict=True)
        batches.append((torch.stack(images), list(samples)))
    assert_same_training(*build_pair(small(recipe())), batches)


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
        ours, stock = build_pair(recipe())
        batches = []
        for step in range(STEPS):
            items = [dataset[i] for i in np.random.default_rng(step).permutation(len(dataset))[:2]]
            batch = {key: [item[key] for item in items] for key in items[0]}
            data = ours.data_preprocessor(batch, training=True)
            batches.append((data['inputs'].double(), data['data_samples']))
        assert_same_training(ours, stock, batches)
