"""Each ablation of the paper trains a small detector: a step or two always, a hundred among the slow tests."""

import re

import pytest
import torch
from mmengine.config import DictAction
from samples.tiny_training import CONFIG, ROOT, write_data

from swin_mm import SwinTransformer
from swin_mm.commands import train

PAGE = (ROOT / 'docs/ablations.md').read_text()
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


@pytest.mark.parametrize('name', ABLATIONS)
def test_the_page_names_the_options(name):
    options = re.findall(r'model\.backbone\.([\w.]+=[\w+]+)', PAGE)
    assert {option for option in ABLATIONS[name] if not option.startswith('window_size')} <= set(options)


def test_the_options_of_the_page_build_a_backbone():
    rows = [re.findall(r'model\.backbone\.(\w+)=([\w+]+)', row) for row in PAGE.splitlines() if row.startswith('|')]
    variants = [dict(row) for row in rows if row]
    assert len(variants) == 8
    for arguments in variants:
        arguments = {key: DictAction._parse_int_float_bool(value) for key, value in arguments.items()}
        net = SwinTransformer(embed_dims=8, depths=(1, 1), num_heads=(1, 2), out_indices=(0, 1), **arguments)
        assert all(m.isfinite().all() for m in net(torch.randn(1, 3, 64, 64)))


@pytest.mark.parametrize('name', FAST)
def test_it_trains(name, tmp_path, monkeypatch):
    assert_sound(trained(tmp_path, monkeypatch, ABLATIONS[name], 1), 2)


@pytest.mark.slow
@pytest.mark.parametrize('name', ABLATIONS)
def test_it_trains_for_a_hundred_steps(name, tmp_path, monkeypatch):
    assert_sound(trained(tmp_path, monkeypatch, ABLATIONS[name], 50), 100)
