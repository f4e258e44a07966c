"""The learning rate of every iteration is the official one: mmcv 1's ``LrUpdaterHook``, restated from its rules."""

import copy
from collections.abc import Iterator

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

EPOCH = 300  # iterations; the warm-up ends within the second epoch


def rates(cfg: Config, epoch: int) -> Iterator[float]:
    """The learning rate of each iteration, with schedulers that step as mmengine's ``ParamSchedulerHook`` does."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(settings, optimizer=optimizer)) for settings in copy.deepcopy(cfg.param_scheduler)
    ]
    optimizer.step()  # PyTorch warns of a scheduler that steps first
    t = 0
    while True:
        yield optimizer.param_groups[0]['lr']
        t += 1
        for scheduler in schedulers:
            if not scheduler.by_epoch or t % epoch == 0:
                scheduler.step()


def warmup(t: int, iterations: int, ratio: float) -> float:
    """mmcv 1, ``warmup='linear'``: from ``ratio`` at iteration 0 to 1 at iteration ``iterations``."""
    return ratio + (1 - ratio) * min(t / iterations, 1)


@pytest.mark.parametrize(
    ('recipe', 'epochs', 'first', 'second'),
    [('mask_rcnn_swin_t', 12, 8, 11), ('mask_rcnn_swin_t_3x', 36, 27, 33), ('cascade_mask_rcnn_swin_b_3x', 36, 27, 33)],
)
def test_epochs_with_two_steps(root, recipe, epochs, first, second):
    cfg = Config.fromfile(root / f'configs/{recipe}.py')
    assert cfg.train_cfg.max_epochs == epochs
    got = rates(cfg, EPOCH)
    for t in range(epochs * EPOCH):
        epoch = t // EPOCH
        official = 1e-4 * 0.1 ** ((epoch >= first) + (epoch >= second)) * warmup(t, 500, 1e-3)
        assert next(got) == pytest.approx(official, rel=1e-9), t


def test_a_polynomial_of_160k_iterations(root):
    """The polynomial falls from the first iteration on, and multiplies the warm-up."""
    cfg = Config.fromfile(root / 'configs/upernet_swin_t.py')
    got = rates(cfg, cfg.train_cfg.max_iters)
    for t in range(cfg.train_cfg.max_iters):
        official = 6e-5 * (1 - t / 160_000) * warmup(t, 1500, 1e-6)
        rate = next(got)
        assert abs(rate - official) <= 1e-9 * official, (t, rate, official)
