"""Presets fit every recipe, alone and together, and do what they say."""

import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from samples.tiny_training import ROOT, trained

from swin_mm.commands import train
from swin_mm.errors import PreflightError
from swin_mm.recipes import apply_presets, known_presets

PRESETS = [path.stem for path in known_presets()]
RECIPES = ['mask_rcnn_swin_pico_shapes.py', 'upernet_swin_pico_shapes.py']
TOGETHER = ['fast', 'low_memory', 'ema', 'early_stopping', 'tensorboard']  # `fsdp` wants processes, `wandb` an account
QUICK = ['train_dataloader.dataset.indices=100', 'val_dataloader.dataset.indices=4', 'train_cfg.max_epochs=1']


@pytest.fixture
def tiny(tmp_path_factory):
    return trained(tmp_path_factory.getbasetemp())


def merged(recipe: str, *presets: str) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / recipe)
    cfg.presets = list(presets)
    apply_presets(cfg)
    return cfg


@pytest.mark.parametrize('recipe', RECIPES)
def test_each_is_merged_into_a_recipe(recipe):
    plain = Config.fromfile(ROOT / 'configs' / recipe)
    for preset in PRESETS:
        cfg = merged(recipe, preset)
        assert cfg.to_dict() != plain.to_dict(), preset
        assert 'presets' not in cfg, 'a saved config holds what they set, and does not merge them again'
    together = merged(recipe, *PRESETS)
    assert together.optim_wrapper.type == 'swin_mm.Bf16OptimWrapper'
    assert together.optim_wrapper.optimizer.lr == plain.optim_wrapper.optimizer.lr
    kinds = [backend.type for backend in together.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', 'TensorboardVisBackend', 'WandbVisBackend']
    metric = 'mIoU' if recipe.startswith('upernet') else 'coco/bbox_mAP'
    assert together.default_hooks.early_stopping.monitor == together.default_hooks.checkpoint.save_best == metric
    assert 'mmdet' not in together
    assert 'mmseg' not in together


def test_a_name_without_a_file_is_refused():
    with pytest.raises(PreflightError, match=r'preset bf15 is none of bf16, early_stopping, .*: did you mean bf16\?'):
        merged(RECIPES[0], 'bf15')


@pytest.mark.parametrize('how', ['option', 'config'])
def test_they_train_together(tiny, tmp_path, how):
    pytest.importorskip('tensorboard')
    config, options = str(tiny.config), [f'presets={",".join(TOGETHER)}']
    if how == 'config':
        (tmp_path / 'own.py').write_text(f'_base_ = {config!r}\npresets = {TOGETHER}\n')
        config, options = str(tmp_path / 'own.py'), ['default_hooks.checkpoint.interval=1']
    options += [f'data_root={tiny.data}', f'visualizer.name={tmp_path.name}']  # mmengine keeps visualizers by name
    train.main([config, '--work-dir', str(tmp_path / 'run'), '--cfg-options', *options])
    loaded = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)
    assert loaded['meta']['iter'] == 4, 'one image an iteration'
    assert 'ema_state_dict' in loaded
    assert {value.dtype for value in loaded['state_dict'].values() if value.is_floating_point()} == {torch.float32}
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {1}
    # Eight images a step where the rate was chosen for sixteen.
    assert {group['initial_lr'] for group in loaded['optimizer']['param_groups']} == {1e-4 / 2}
    assert list((tmp_path / 'run').rglob('events.out.tfevents*'))


def test_products_are_in_bfloat16(tiny):
    """Forward passes only: weights and gradients stay as they are."""
    cfg = Config.fromfile(tiny.config)
    cfg.presets = ['bf16']
    apply_presets(cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        net = torch.nn.Linear(2, 2)
        wrapper = build_optim_wrapper(net, cfg.optim_wrapper)
    with wrapper.optim_context(net):
        y = net(torch.ones(1, 2))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert {p.dtype for p in net.parameters()} == {p.grad.dtype for p in net.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize('presets', [*([p] for p in PRESETS if p != 'fsdp'), [*TOGETHER, 'wandb']], ids='-'.join)
def test_fifty_steps_of_the_small_recipe(tmp_path, presets, monkeypatch):
    if 'wandb' in presets:
        pytest.importorskip('wandb')
        monkeypatch.setenv('WANDB_MODE', 'offline')
    argv = ['mask_rcnn_swin_pico_shapes', '--work-dir', str(tmp_path / 'run')]
    size = [] if 'low_memory' in presets else ['train_dataloader.batch_size=2']
    options = [f'presets={",".join(presets)}', f'data_root={tmp_path}/shapes', f'visualizer.name={tmp_path.name}']
    train.main([*argv, '--cfg-options', *options, *QUICK, *size])
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert '[50/50]' in log.read_text() or '[100/100]' in log.read_text()
    loaded = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)
    assert all(value.isfinite().all() for value in loaded['state_dict'].values())


@pytest.mark.slow
def test_fifty_steps_on_two_processes_with_shards_and_a_resume(tmp_path):
    options = ['presets=fsdp', f'data_root={tmp_path}/shapes', *QUICK, 'train_dataloader.batch_size=1']
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '-m', 'swin_mm', 'train']
    command += ['mask_rcnn_swin_pico_shapes', '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'run')]
    subprocess.run([*command, '--cfg-options', *options], check=True, cwd=ROOT)
    options[options.index('train_cfg.max_epochs=1')] = 'train_cfg.max_epochs=2'
    done = subprocess.run([*command, '--resume', '--cfg-options', *options], check=True, cwd=ROOT, capture_output=True)
    assert b'Epoch(train) [2][50/50]' in done.stdout + done.stderr
    assert b'Epoch(train) [1][50/50]' not in done.stdout + done.stderr
