"""``train``: trains, saves what loads safely, resumes where it stopped, and says why it cannot start."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from samples.breakable_data import OwnData
from samples.tiny_training import DATA, MODEL, ROOT

from swin_mm.commands import check as check_command
from swin_mm.commands import launch
from swin_mm.commands import train as train_command
from swin_mm.commands.ending import run
from swin_mm.engine.curves import TrainingCurves
from swin_mm.engine.resuming import ContinuedRun
from swin_mm.engine.signals import StopOnSignal
from swin_mm.engine.weights import CheckedWeights
from swin_mm.errors import PreflightError, RunError


@pytest.fixture(scope='module')
def main():
    return train_command.main


@pytest.fixture
def train(main, tiny, tmp_path):
    """Trains the tiny recipe in the work dir ``tmp_path``; gives the log's text."""

    def train(*args, options=()):
        main(
            [str(tiny.config), '--work-dir', str(tmp_path), *args, '--cfg-options', f'data_root={tiny.data}', *options]
        )
        return ''.join(path.read_text() for path in sorted(tmp_path.glob('*/*.log')))

    return train


def test_trained_checkpoint_is_plain_data(tiny):
    loaded = torch.load(tiny.checkpoint, weights_only=True)
    assert loaded['meta']['epoch'] == 1
    assert loaded['meta']['iter'] == 2  # four pictures in batches of two
    assert tuple(loaded['meta']['dataset_meta']['classes']) == ('box', 'disc')
    assert all(value.isfinite().all() for value in loaded['state_dict'].values())


def test_training_moves_every_weight(tiny):
    """Each parameter has been stepped twice; the head for boxes of a class without a sample may stand still."""
    loaded = torch.load(tiny.checkpoint, weights_only=True)
    steps = [int(state['step']) for state in loaded['optimizer']['state'].values()]
    assert steps == [2] * len(steps)
    moved = [bool(state['exp_avg'].any()) for state in loaded['optimizer']['state'].values()]
    assert sum(moved) / len(moved) > 0.95


def test_log_says_which_learning_rate_fits_the_batch(tiny):
    (log,) = tiny.work_dir.glob('*/*.log')
    text = log.read_text()
    assert 'lr=0.0001 was chosen for 16. The linear rule: --cfg-options optim_wrapper.optimizer.lr=1.25e-05' in text
    assert text.index('WARNING - The batch size is 2') < text.index('Epoch(train) [1][1/2]')
    assert 'NOTHING TO RESUME' not in text


@pytest.mark.parametrize('named', [True, False], ids=['path', 'auto'])
def test_resume_continues(train, tiny, tmp_path, named):
    if not named:
        shutil.copy(tiny.checkpoint, tmp_path)
        (tmp_path / 'last_checkpoint').write_text(str(tiny.checkpoint))  # the copy counts, not the original
    log = train('--resume', *([str(tiny.checkpoint)] if named else []), options=['train_cfg.max_epochs=2'])
    assert 'Epoch(train) [1][' not in log
    assert 'Epoch(train) [2][1/2]' in log
    assert 'NOTHING TO RESUME' not in log
    loaded = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    assert (loaded['meta']['epoch'], loaded['meta']['iter']) == (2, 4)
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {4}
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')


def test_nothing_to_resume_is_said_and_auto_scale_lr_scales(train, tmp_path):
    log = train('--resume', '--auto-scale-lr')
    assert f'WARNING - NOTHING TO RESUME in {tmp_path}: training starts from the beginning' in log
    loaded = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert {group['initial_lr'] for group in loaded['optimizer']['param_groups']} == {1e-4 * 2 / 16}
    assert 'The linear rule' not in log


def test_resume_runs_no_text_of_a_checkpoint(train, tiny, tmp_path):
    """mmengine takes ``meta['config']`` for the run's config, as Python, and reads the number of GPUs from it."""
    text = f'gpu_ids = __import__("os").mkdir({str(tmp_path / "ran")!r})\n'
    loaded = torch.load(tiny.checkpoint, weights_only=True)
    loaded['meta']['config'] = text
    torch.save(loaded, tmp_path / 'hostile.pth')
    train('--resume', str(tmp_path / 'hostile.pth'), options=['train_cfg.max_epochs=2'])
    assert (tmp_path / 'epoch_2.pth').exists()
    assert not (tmp_path / 'ran').exists()

    Config.fromstring(text, '.py')  # it would have
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('args', 'options', 'words'),
    [
        (['--amp'], [], '--amp .* must run on a GPU, got device=cpu'),
        (['--auto-scale-lr'], ['auto_scale_lr=None'], r'--auto-scale-lr needs .* base_batch_size'),
        (['--resume', 'gone.pth'], [], r'checkpoint gone\.pth'),
        ([], ['load_from=gone.pth'], r'checkpoint gone\.pth'),
        ([], ['data_root=/gone'], '/gone/instances.json'),
    ],
)
def test_run_that_cannot_start_builds_nothing(train, tmp_path, monkeypatch, args, options, words):
    monkeypatch.setattr('swin_mm.engine.preflight.get_device', lambda: 'cpu')
    with pytest.raises(PreflightError, match=words):
        train(*args, options=options)
    assert not list(tmp_path.iterdir())


def test_our_hooks_are_added_where_a_config_does_not_name_them(train, monkeypatch):
    hooks = []
    monkeypatch.setattr('mmengine.runner.Runner.train', lambda self: hooks.append([*map(type, self.hooks)]))
    ours = {CheckedWeights, ContinuedRun, StopOnSignal, TrainingCurves}
    train(options=[])
    train(options=[f'default_hooks.{name}=None' for name in ('stop', 'continued', 'weights', 'curves')])
    both = "custom_hooks=[dict(type='swin_mm.StopOnSignal')]"
    cfg = Config.fromstring(f'default_hooks = dict(checkpoint=None)\n{both}', '.py')
    launch.add_hooks(cfg, stop='StopOnSignal', weights='CheckedWeights')
    assert [len(ours & set(found)) for found in hooks] == [4, 0]
    assert [hooks[0].count(hook) for hook in ours] == [1, 1, 1, 1]
    assert cfg.default_hooks == dict(checkpoint=None, weights=dict(type='swin_mm.CheckedWeights'))


def test_a_config_of_mmdet_s_own_ends_with_its_curves_too(main, tiny, tmp_path):
    base = "_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'\n"
    ours = "custom_imports = dict(imports=['swin_mm'])\nmodel['backbone'].update(type='swin_mm.SwinTransformer')\n"
    (tmp_path / 'stock.py').write_text(base + MODEL + ours + DATA)
    assert 'curves' not in Config.fromfile(tmp_path / 'stock.py').default_hooks
    options = ['--cfg-options', f'data_root={tiny.data}']
    main([str(tmp_path / 'stock.py'), '--work-dir', str(tmp_path / 'run'), *options])
    assert (tmp_path / 'run/curves.png').is_file()
    with open(tmp_path / 'run/curves.csv', newline='') as table:
        assert {'loss', 'lr', 'coco/bbox_mAP'} <= {row['name'] for row in csv.DictReader(table)}


def test_checkpoint_that_was_moved_away_is_not_started_over(train, tmp_path):
    (tmp_path / 'last_checkpoint').write_text('/old/place/epoch_3.pth')
    with pytest.raises(PreflightError, match=r'can be resumed:\n  .*/epoch_3\.pth is not there'):
        train('--resume')


def test_script_works_from_anywhere_and_ends_with_its_reason(tmp_path):
    """The recipe by its path in the project, without data; swin_mm is found though it may not be installed."""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    command = [sys.executable, str(ROOT / 'tools/train.py'), 'configs/mask_rcnn_swin_t.py']
    done = subprocess.run(
        [*command, '--cfg-options', 'model.backbone.init_cfg=None'],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert 'train.py: this run cannot start, missing:' in done.stderr
    assert 'annotation file data/coco/annotations/instances_train2017.json (train_dataloader)' in done.stderr
    assert 'weights' not in done.stderr
    assert not list(tmp_path.iterdir())


def test_reason_is_printed_once_a_machine(monkeypatch):

    def main():
        raise PreflightError('no data')

    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    for rank, code in (('0', 'train.py: no data'), ('1', 1)):
        monkeypatch.setenv('LOCAL_RANK', rank)
        with pytest.raises(SystemExit) as caught:
            run(main)
        assert caught.value.code == code


def test_what_ended_a_run_is_printed_by_the_rank_that_met_it(monkeypatch):

    def main():
        raise RunError('11 pictures cannot be read')

    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('LOCAL_RANK', '1')
    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 'train.py: rank 1: 11 pictures cannot be read'


@pytest.mark.parametrize('recipe', sorted(Path(ROOT, 'configs').glob('mask_rcnn_*.py')), ids=lambda path: path.stem)
def test_recipes_learning_rate_can_be_scaled(recipe):
    train_command._scale_lr(Config.fromfile(recipe))


def test_broken_data_are_refused_before_the_first_step_with_the_words_of_check(main, tmp_path, capsys):
    own = OwnData(tmp_path)
    own.first['image_id'] = 999
    own.write()
    config = tmp_path / 'own.py'
    classes, files = "metainfo=dict(classes=('cat', 'dog'))", "ann_file='{0}.json', data_prefix=dict(img='{0}/')"
    sets = [
        f"dict(dataset=dict(data_root='{tmp_path}/', {classes}, {files.format(name)}))" for name in ('train', 'val')
    ]
    config.write_text(
        f"_base_ = '{ROOT}/configs/mask_rcnn_swin_t.py'\ntrain_dataloader = {sets[0]}\n"
        f'val_dataloader = test_dataloader = {sets[1]}\n'
        f"val_evaluator = test_evaluator = dict(ann_file='{tmp_path}/val.json')\n"
        'model = dict(backbone=dict(init_cfg=None),'
        'roi_head=dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2)))\n'
    )
    assert check_command.main([str(config)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith('error')]
    with pytest.raises(PreflightError) as caught:
        main([str(config), '--work-dir', str(tmp_path / 'run')])
    assert line in str(caught.value)
    assert f'`swin-mm check {config}`' in str(caught.value)
    assert not list((tmp_path / 'run').rglob('*'))
