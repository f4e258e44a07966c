"""Training UPerNet with our backbone is training it with mmseg's own: the same losses of both heads, step by step."""

import numpy as np
import pytest
import torch
from equal_weights import build_pair
from same_training import STEPS, assert_same_training, ellipses, optimizer

pytest.importorskip('mmseg')

from mmengine.hub import get_config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

pytestmark = pytest.mark.usefixtures('float64')

OPTIMIZER = optimizer(lr=6e-5, weight_decay=0.01)
LOSSES = {'decode.loss_ce', 'decode.acc_seg', 'aux.loss_ce', 'aux.acc_seg'}
SMALL = dict(embed_dims=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))
SIZE = (71, 98)  # padded to whole patches, to even sides before each merging, and to whole windows
IGNORED = 255


def recipe():
    """The model of mmseg's own UPerNet recipe, for one process and without weights to download.

    Its dropout in the heads stays: both models draw it alike.
    """
    model = get_config('mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py').model
    model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    for head in (model.decode_head, model.auxiliary_head):
        assert head.dropout_ratio > 0
        head.norm_cfg.type = 'BN'
    return model


def small(model):
    """``model`` with a small Swin, narrow heads and few classes: the same arithmetic at a fraction of its cost."""
    model.backbone.update(SMALL)
    widths = [SMALL['embed_dims'] * 2**i for i in range(4)]
    model.decode_head.update(in_channels=widths, channels=16, num_classes=6)
    model.auxiliary_head.update(in_channels=widths[2], channels=16, num_classes=6)
    return model


def drawn(rng: np.random.Generator, classes: int) -> tuple[torch.Tensor, SegDataSample]:
    """Ellipses on noise, each labelled as one class or another, and a margin without a label."""
    image, masks = ellipses(rng, *SIZE, objects=3)
    labels = np.zeros(SIZE, np.int64)
    for mask in masks:
        labels[mask == 1] = rng.integers(1, classes)
    labels[:, :5] = IGNORED
    sample = SegDataSample(metainfo=dict(img_shape=SIZE, pad_shape=SIZE))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels)[None])
    return torch.from_numpy(image), sample


def assert_same_steps(model) -> None:
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(STEPS):
        images, samples = zip(*(drawn(rng, model.decode_head.num_classes) for _ in range(2)), strict=True)
        batches.append((torch.stack(images), list(samples)))
    assert_same_training(*build_pair('mmseg', model), batches, OPTIMIZER, LOSSES)


def test_ten_steps_are_the_same_training():
    assert_same_steps(small(recipe()))


@pytest.mark.slow
def test_ten_steps_of_the_full_size():
    """Swin-T and the recipe's own heads, 512 and 256 channels wide."""
    assert_same_steps(recipe())
