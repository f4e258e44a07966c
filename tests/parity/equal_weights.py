"""Our backbone and OpenMMLab's own with the same weights: alone, or each in a whole model of the same config."""

import copy
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from swin_mm import SwinTransformer
from swin_mm.checkpoints import from_official


def randomize(net: nn.Module) -> nn.Module:
    """As if trained: matrices stay small, but no norm does nothing, no bias is zero, and tables of biases matter."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            scale = 0.5 if 'table' in name else 0.2 if parameter.ndim == 1 else 0.02
            parameter += scale * torch.randn_like(parameter)
    return net


def copy_weights(ours: nn.Module, stock: nn.Module) -> None:
    """Writes our weights into OpenMMLab's module, be it a backbone or a whole model."""
    stock.load_state_dict(from_official(ours.state_dict(), 'mmdet'), strict=True)


def drop_in(folder: Path, scope: str, recipe: str) -> tuple[ConfigDict, ConfigDict]:
    """The models of two files in ``folder``: a stock recipe with our two lines, and without the second of them."""
    base, backbone = f"_base_ = '{scope}::{recipe}'", "model = dict(backbone=dict(type='swin_mm.SwinTransformer'))"
    models = []
    for name, lines in (('ours.py', [base, backbone]), ('stock.py', [base])):
        (folder / name).write_text('\n'.join(lines) + '\n')
        models.append(Config.fromfile(folder / name).model)
    ours, stock = models
    assert (ours.backbone.type, stock.backbone.type) == ('swin_mm.SwinTransformer', 'SwinTransformer')
    return ours, stock


def build_pair(scope: str, ours: ConfigDict, stock: ConfigDict | None = None) -> tuple[nn.Module, nn.Module]:
    """Two models of equal weights, the backbone's as if trained: one with our backbone, one with that of ``scope``.

    ``stock`` None is ``ours`` with the stock type.
    """
    if stock is None:
        stock = copy.deepcopy(ours)
        ours.backbone.type, stock.backbone.type = 'swin_mm.SwinTransformer', 'SwinTransformer'
    with DefaultScope.overwrite_default_scope(scope):
        models = MODELS.build(copy.deepcopy(ours)), MODELS.build(copy.deepcopy(stock))
        stock_class = MODELS.get(f'{scope}.SwinTransformer')
    assert [type(model.backbone) for model in models] == [SwinTransformer, stock_class]
    randomize(models[0].backbone)
    copy_weights(*models)
    return models
