"""Runs of mmengine's own Runner: saved, loaded with ``weights_only=True``, resumed."""

import pickle
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import load_from_http
from torch import nn
from torch.utils.data import Dataset

from swin_mm.checkpoints.downloads import cached

ADDRESS = 'https://localhost/weights.pth'


class Numbers(Dataset):
    """Eight pairs; its description holds what a file of weights may not."""

    def __init__(self):
        palette = np.array([[1, 2, 3], [4, 5, 6]])
        self.metainfo = dict(classes=('a', 'b'), palette=palette, ids={7}, more=ConfigDict(x=1))

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return torch.tensor([i / 8, 1.0, -i / 4]), torch.tensor([i / 2])


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x, y, mode='tensor'):
        error = self.linear(torch.stack(x)) - torch.stack(y)
        return dict(loss=error.square().mean()) if mode == 'loss' else list(error)


class Score(BaseMetric):
    """A NumPy scalar, by which the best checkpoint is chosen, and a result that is none."""

    def process(self, data_batch, data_samples):
        self.results += [float(error.square()) for error in data_samples]

    def compute_metrics(self, results):
        return dict(acc=np.float64(1 / np.mean(results)), errors=np.array(results))


SCHEDULERS = [
    dict(type='OneCycleLR', eta_max=0.1, total_steps=12, by_epoch=False),
    dict(type='ReduceOnPlateauParamScheduler', param_name='weight_decay', monitor='acc', rule='greater', patience=1),
]
EPOCHS = dict(by_epoch=True, max_epochs=4, val_interval=1)
ITERATIONS = dict(by_epoch=False, max_iters=8, val_interval=2)


@pytest.fixture
def make_runner(tmp_path, request):
    """Makes a Runner on the eight pairs; each has a message hub of its own."""
    made = []

    def make(train_cfg: dict, folder: str, **settings) -> Runner:
        sampler = dict(type='DefaultSampler' if train_cfg['by_epoch'] else 'InfiniteSampler', shuffle=True)
        loader = dict(dataset=Numbers(), batch_size=4, num_workers=0, collate_fn=dict(type='pseudo_collate'))
        checkpoint = dict(type='CheckpointHook', interval=1 if train_cfg['by_epoch'] else 2, save_best='auto')
        torch.manual_seed(0)
        made.append(f'{request.node.name}_{len(made)}')
        return Runner(
            model=Regression(),
            work_dir=str(tmp_path / folder),
            train_dataloader=dict(loader, sampler=sampler),
            val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=train_cfg,
            val_cfg=dict(),
            val_evaluator=dict(type=Score, prefix=None),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01, betas=(0.9, 0.99))),
            param_scheduler=SCHEDULERS,
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(checkpoint, rule='greater', by_epoch=train_cfg['by_epoch']),
            ),
            custom_hooks=[dict(type='EMAHook')],
            randomness=dict(seed=1),
            default_scope='mmengine',
            experiment_name=made[-1],
            log_level='ERROR',
            **settings,
        )

    return make


@pytest.mark.parametrize('train_cfg', [EPOCHS, ITERATIONS], ids=['epochs', 'iterations'])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(make_runner, train_cfg):
    by_epoch = train_cfg['by_epoch']
    whole = make_runner(train_cfg, 'whole')
    whole.train()

    folder = Path(whole.work_dir)
    half = folder / ('epoch_2.pth' if by_epoch else 'iter_4.pth')
    assert len(list(folder.glob('*.pth'))) == 5
    for file in folder.glob('*.pth'):
        torch.load(file, weights_only=True)

    resumed = make_runner(train_cfg, 'resumed', resume=True, load_from=str(half))
    resumed.train()
    assert (resumed.epoch, resumed.iter) == (whole.epoch, whole.iter)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value)

    ours, theirs = resumed.message_hub, whole.message_hub
    assert ours.get_info('best_score') == theirs.get_info('best_score')
    assert type(ours.get_info('iter')) is int
    for key in ('train/loss', 'train/lr', 'val/acc'):
        for a, b in zip(ours.get_scalar(key).data, theirs.get_scalar(key).data, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert len(ours.get_scalar('train/loss').data[0]) == 8


def test_what_is_saved_keeps_its_values(make_runner):
    runner = make_runner(dict(EPOCHS, max_epochs=1), 'one')
    runner.train()
    saved = torch.load(Path(runner.work_dir) / 'epoch_1.pth', weights_only=True)
    assert saved['meta']['dataset_meta'] == dict(
        classes=('a', 'b'), palette=[[1, 2, 3], [4, 5, 6]], ids=[7], more=dict(x=1)
    )
    info = saved['message_hub']['runtime_info']
    assert type(info['best_score']) is float
    assert info['best_score'] == runner.message_hub.get_scalar('val/acc').current()
    assert len(info['val/errors']) == 8
    assert 'ema_state_dict' in saved
    # A method of the scheduler: the resumed one has its own.
    assert 'anneal_func' not in saved['param_schedulers'][0]
    assert saved['param_schedulers'][0]['total_steps'] == 12


def test_the_message_hub_round_trip_keeps_every_history():
    hub, other = MessageHub.get_instance('hub saved'), MessageHub.get_instance('hub loaded')
    for step in range(5):
        hub.update_scalar('loss', 0.1 * step, count=step + 1)
        hub.update_scalar('steps', step)
        hub.update_scalar('not resumed', step, resumed=False)
    hub.update_info('best', np.float32(0.5))
    hub.update_info('kept', deque([np.int64(3), 4]))
    state = hub.state_dict()
    assert 'not resumed' not in state['log_scalars']
    assert hub.get_scalar('loss').data[0].tolist() == [0.1 * step for step in range(5)], 'the live hub is untouched'

    other.load_state_dict(state)
    for key in ('loss', 'steps'):
        for a, b in zip(other.get_scalar(key).data, hub.get_scalar(key).data, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert other.get_scalar('loss').max_length == hub.get_scalar('loss').max_length
    assert other.runtime_info == dict(best=0.5, kept=[3, 4])
    other.update_scalar('loss', 7.0)
    assert other.get_scalar('loss').mean(2) == pytest.approx((0.4 + 7.0) / (5 + 1))


def test_the_message_hub_still_takes_the_old_form():
    hub = MessageHub.get_instance('hub of old')
    hub.load_state_dict(dict(log_scalars=dict(loss=HistoryBuffer([1, 2], [1, 1])), runtime_info={}, resumed_keys={}))
    assert hub.get_scalar('loss').mean() == 1.5
    copy = MessageHub.get_instance('hub of a hub')
    copy.load_state_dict(hub)
    assert copy.get_scalar('loss').mean() == 1.5


class Attack:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def from_file(file):
    return load_checkpoint(nn.Linear(1, 1), str(file))


def from_url(file):
    return load_from_http(ADDRESS)  # in the cache already


def by_an_mmengine_that_falls_back(file):
    """As onedl-mmengine 0.10.12 does when the file holds more than weights."""
    return mmengine_checkpoint.torch.load(file, weights_only=False)


# PyTorch finds a method by getattr. From 2.6 on that is read as a stand-in, so the class is what it meets next.
REFUSED = r'\(builtins\.getattr\)' if torch.__version__ < '2.6' else r'\(pathlib'


@pytest.mark.parametrize('load', [from_file, from_url, by_an_mmengine_that_falls_back])
def test_mmengine_runs_no_code_from_a_checkpoint(tmp_path, monkeypatch, load):
    monkeypatch.setenv('SWIN_MM_CACHE', str(tmp_path))
    trace, file = tmp_path / 'trace', cached(ADDRESS)
    torch.save(dict(state_dict={}, attack=Attack(trace)), file)
    with pytest.raises((ValueError, pickle.UnpicklingError), match=rf'{REFUSED}|Weights only load failed'):
        load(file)
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists(), 'the attack works'
