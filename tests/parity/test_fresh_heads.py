"""Necks and heads that no checkpoint fills start as officially: mmdet 2.11's and mmseg 0.11's ``init_weights``."""

import math
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn


def xavier(weight: torch.Tensor) -> float:
    return math.sqrt(2 / (weight[0].numel() + weight[:, 0].numel()))


def kaiming(weight: torch.Tensor) -> float:
    return math.sqrt(2 / weight[:, 0].numel())


# Start of a parameter's name: distribution and standard deviation, of weights that no longer start decides.
RULES = {
    'neck.': ('uniform', xavier),
    'rpn_head.': ('normal', 0.01),
    'roi_head.bbox_head.shared_fcs.': ('uniform', xavier),
    'roi_head.bbox_head.fc_cls.': ('normal', 0.01),
    'roi_head.bbox_head.fc_reg.': ('normal', 0.001),
    'roi_head.bbox_head.shared_convs.': ('normal', kaiming),  # as ConvModule starts
    'roi_head.mask_head.': ('normal', kaiming),  # by the outputs of a layer
    'decode_head.': ('normal', kaiming),
    'decode_head.conv_seg.': ('normal', 0.01),
    'auxiliary_head.': ('normal', kaiming),
    'auxiliary_head.conv_seg.': ('normal', 0.01),
}


def fresh(path) -> nn.Module:
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.mark.parametrize(
    ('recipe', 'package'),
    [('mask_rcnn_swin_t', 'mmdet'), ('cascade_mask_rcnn_swin_t', 'mmdet'), ('upernet_swin_t', 'mmseg')],
)
def test_fresh_heads_are_drawn_as_officially(root, recipe, package):
    pytest.importorskip(package)
    weights = {k: v.detach() for k, v in fresh(root / f'configs/{recipe}.py').named_parameters()}
    for full_name, weight in weights.items():
        name = re.sub(r'(bbox|mask)_head\.\d\.', r'\1_head.', full_name)  # every stage of a cascade starts alike
        if name.startswith('backbone.'):
            continue
        if weight.dim() == 1:  # biases and norms
            assert (weight == float(name.endswith('bn.weight'))).all(), name
            continue
        distribution, std = RULES[max((start for start in RULES if name.startswith(start)), key=len)]
        want = std(weight) if callable(std) else std
        assert weight.std().item() == pytest.approx(want, rel=4 / math.sqrt(2 * weight.numel())), name
        assert (weight.abs().max() < 1.74 * want) == (distribution == 'uniform'), name
