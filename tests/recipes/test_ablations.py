"""Each ablation of the paper trains a small detector: a step or two always, a hundred among the slow tests."""

import pytest
import torch
from samples.tiny_training import CONFIG, write_data

from swin_mm.commands import train

# What `--cfg-options` say of the backbone.
ABLATIONS = {
    'shifted windows': [],
    'no shift': ['shift=False'],
    'no position': ['position=none'],
    'absolute': ['position=absolute'],
    'absolute and relative': ['position=absolute+relative'],
    'relative only': ['position=relative_only'],
    'sliding': ['attention=sliding'],
    'performer': ['attention=performer', 'position=none'],
    'performer, seed 1': ['attention.type=performer', 'attention.seed=1', 'position=none'],
    'global': ['attention=global', 'window_size=32'],
}
FAST = ('sliding', 'performer, seed 1', 'global')


def trained(folder, monkeypatch, options, epochs):
    """The checkpoint after ``epochs`` epochs of two steps."""
    (folder / 'tiny.py').write_text(CONFIG)
    data = write_data(folder / 'data')
    monkeypatch.chdir(folder)
    settings = [
        f'train_cfg.max_epochs={epochs}',
        f'train_cfg.val_interval={epochs}',
        f'default_hooks.checkpoint.interval={epochs}',
    ]
    settings += [f'model.backbone.{option}' for option in options]
    train.main(['tiny.py', '--cfg-options', f'data_root={data}', *settings])
    return torch.load(folder / f'work_dirs/tiny/epoch_{epochs}.pth', weights_only=True)


def assert_sound(checkpoint, steps):
    """All weights are finite, and no step was left out, as one with a NaN would be."""
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())
    assert {int(state['step']) for state in checkpoint['optimizer']['state'].values()} == {steps}


@pytest.mark.parametrize('name', FAST)
def test_it_trains(name, tmp_path, monkeypatch):
    assert_sound(trained(tmp_path, monkeypatch, ABLATIONS[name], 1), 2)


@pytest.mark.slow
@pytest.mark.parametrize('name', ABLATIONS)
def test_it_trains_for_a_hundred_steps(name, tmp_path, monkeypatch):
    assert_sound(trained(tmp_path, monkeypatch, ABLATIONS[name], 50), 100)
