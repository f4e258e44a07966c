"""Ten steps of AdamW with our backbone and ten with OpenMMLab's own must be the same ten steps."""

import copy
import math

import numpy as np
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from swin_mm.checkpoints import to_official

STEPS = 10


def optimizer(lr: float, weight_decay: float) -> dict:
    """That of the official recipes: linear layers decay with their biases, norms and position tables do not."""
    undecayed = ('absolute_pos_embed', 'relative_position_bias_table', 'norm')
    return dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay),
        paramwise_cfg=dict(custom_keys={key: dict(decay_mult=0.0) for key in undecayed}),
    )


def ellipses(rng: np.random.Generator, height: int, width: int, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with ellipses, ``(3, height, width)``, and their masks, ``(objects, height, width)`` of 0 and 1."""
    image = rng.normal(size=(3, height, width))
    rows, columns = np.mgrid[:height, :width]
    masks = np.zeros((objects, height, width), np.uint8)
    for k in range(objects):
        y, x = rng.uniform(0.25, 0.75, 2) * (height, width)
        a, b = rng.uniform(0.1, 0.3, 2) * (height, width)
        masks[k] = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1
        image[k % 3] += 2 * masks[k]
    return image, masks


def train(model: nn.Module, batches: list, optim_wrapper: dict) -> list[dict[str, float]]:
    """The losses of each step."""
    wrapper = build_optim_wrapper(model, optim_wrapper)
    history = []
    for step, (images, samples) in enumerate(batches):
        torch.manual_seed(step)  # samplers of proposals and dropout draw
        total, losses = model.parse_losses(model.loss(images, copy.deepcopy(samples)))
        wrapper.update_params(total)
        history.append({name: value.item() for name, value in losses.items()})
    return history


def assert_same_training(ours: nn.Module, stock: nn.Module, batches: list, optim_wrapper: dict, losses: set) -> None:
    """Same losses, ``losses`` among them, at every step, and same weights after the last one; every weight moved."""
    start = {name: value.detach().clone() for name, value in ours.named_parameters()}
    mine, theirs = (train(model, batches, optim_wrapper) for model in (ours, stock))
    assert len(mine) == STEPS
    loss_error = 0.0
    for a, b in zip(mine, theirs, strict=True):
        assert a.keys() == b.keys() >= losses
        assert all(math.isfinite(value) and value > 0 for name, value in b.items() if 'loss' in name)
        loss_error = max(loss_error, *(abs(a[name] - b[name]) / max(abs(b[name]), 1e-12) for name in b))

    end = to_official(dict(stock.named_parameters()))
    steps = {name: (value, start[name]) for name, value in ours.named_parameters()}
    lr = optim_wrapper['optimizer']['lr']
    weight_error = max((value - end[name]).abs().max().item() for name, (value, _) in steps.items()) / lr
    print(f'largest relative difference of a loss {loss_error:.1e}; of a weight, in learning rates, {weight_error:.1e}')
    assert loss_error < 1e-8
    assert weight_error < 1e-6
    assert [name for name, (value, before) in steps.items() if torch.equal(value, before)] == []
