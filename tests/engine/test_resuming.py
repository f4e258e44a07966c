"""A run that was interrupted and resumed ends as one that was not, to the bit, and reads no picture twice for it."""

import gc
import multiprocessing
import random
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from interrupted_run import PICTURES, Pictures, config, differing, interrupted, outcome, reads, train, uninterrupted
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from swin_mm.commands import train as train_command
from swin_mm.engine.numbered_batches import NumberedBatches, numbered_loader, numbers_of, seed_everything
from swin_mm.errors import PreflightError

pytestmark = pytest.mark.usefixtures('quick_runner')
BATCHES = 15  # of two pictures each


@pytest.fixture
def base(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


def settings(tmp_path, name='run', **options):
    (tmp_path / name).mkdir()
    return config(tmp_path / name, **options)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
def test_interrupted_run_equals_an_uninterrupted_one(base, tmp_path, by_epoch, workers):
    """In the middle of an epoch and after its last batch, mmengine's schedules, averages and clipping included."""
    run = settings(tmp_path, by_epoch=by_epoch, workers=workers)
    checkpoint = interrupted(run, at=6)
    checkpoint = interrupted(run, at=9, resume=checkpoint)
    found = outcome(train(run, resume=checkpoint))
    assert differing(found, uninterrupted(base, by_epoch=by_epoch, workers=0)) == []
    assert not Path(checkpoint).exists(), 'the run is over: its last checkpoint is a better place to start from'
    # Workers read up to four batches ahead; the loop over iterations lets them start before it can be told where.
    ahead = 3 * 4 * workers * (1 if by_epoch else 2)
    assert 2 * BATCHES <= len(reads(run)) <= 2 * BATCHES + ahead


@pytest.mark.slow
def test_loop_of_iterations_keeps_one_set_of_workers(tmp_path):
    """It starts workers that persist when it is built, before the hook can tell them what to load."""
    gc.collect()
    others, counts = set(multiprocessing.active_children()), []

    class Counts(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            counts.append(len(set(multiprocessing.active_children()) - others))

    train(settings(tmp_path, by_epoch=False, workers=2), (Counts(),))
    assert counts == [2] * BATCHES


def test_a_loader_keeps_its_class_and_settings():
    class Loader(DataLoader):
        pass

    loader = Loader(Pictures('/dev/null'), batch_size=3, drop_last=True, in_order=False)
    numbered = numbered_loader(loader, NumberedBatches(loader.batch_sampler, 0, 0))
    assert type(numbered) is Loader
    assert {key: value for key, value in vars(numbered).items() if value is not vars(loader)[key]} == dict(
        batch_sampler=numbered.batch_sampler
    )
    assert [len(batch['label']) for batch in numbered] == [3, 3, 3]


@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
def test_killed_run_goes_on_from_its_last_checkpoint(base, tmp_path, by_epoch):
    class Dies(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 8:
                raise ZeroDivisionError

    run = settings(tmp_path, by_epoch=by_epoch)
    with pytest.raises(ZeroDivisionError):
        train(run, (Dies(),))
    last = Path(run['work_dir'], 'epoch_1.pth' if by_epoch else 'iter_5.pth')
    found = outcome(train(run, resume=str(last)))
    assert differing(found, uninterrupted(base, by_epoch=by_epoch, workers=0)) == []


def test_loss_scale_goes_on(tmp_path, monkeypatch):
    """mmengine makes a scaler on GPUs only; PyTorch's own works anywhere."""
    wrapper = 'mmengine.optim.optimizer.amp_optimizer_wrapper.'
    monkeypatch.setattr(f'{wrapper}is_cuda_available', lambda: True)
    monkeypatch.setattr(f'{wrapper}GradScaler', partial(torch.amp.GradScaler, 'cpu'))

    def scaled(name):
        run = settings(tmp_path, name)
        scale = dict(init_scale=16.0, growth_interval=4)
        run['optim_wrapper'].update(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=scale)
        return run

    whole, run = train(scaled('whole')), scaled('run')
    resumed = train(run, resume=interrupted(run, at=6))
    scalers = [runner.optim_wrapper.loss_scaler.state_dict() for runner in (whole, resumed)]
    assert scalers[0] == scalers[1]
    assert scalers[0]['scale'] == 16.0 * 2**3
    assert differing(outcome(whole), outcome(resumed)) == []


def test_run_without_a_seed_keeps_the_one_that_it_drew(base, tmp_path):
    run = settings(tmp_path)
    run['randomness'] = dict(seed=None)
    first = interrupted(run, at=1)
    kept = shutil.copy(first, tmp_path)
    at_once = outcome(train(run, resume=kept))
    in_between = interrupted(run, at=8, resume=kept)
    assert differing(outcome(train(run, resume=in_between)), at_once) == []
    assert differing(at_once, uninterrupted(base, by_epoch=True, workers=0)) != []


def test_batches_of_a_resumed_epoch_keep_their_numbers(tmp_path):
    class Counts(Hook):
        def __init__(self):
            self.seen = []

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.seen.append((runner.epoch, runner.iter, batch_idx))

    run, counts = settings(tmp_path), Counts()
    train(run, (counts,), resume=interrupted(run, at=6))
    assert counts.seen == [(i // 5, i, i % 5) for i in range(7, BATCHES)]


def test_checkpoint_from_elsewhere_goes_on_at_its_epoch(tmp_path):
    """One of mmengine's own, which does not say how long its epochs were."""
    run = settings(tmp_path)
    loaded = torch.load(interrupted(run, at=4), weights_only=True)
    assert loaded['meta'].pop('run') == dict(processes=1, batch_size=2, iterations_per_epoch=5)
    loaded['meta'].update(epoch=2, iter=40)
    torch.save(loaded, tmp_path / 'other.pth')
    before = len(reads(run))
    assert train(run, resume=str(tmp_path / 'other.pth')).epoch == 3
    assert len(reads(run)) - before == PICTURES


def test_other_batch_size_and_other_data_are_refused(tmp_path, monkeypatch):
    run = settings(tmp_path)
    checkpoint = interrupted(run, at=6)
    run['train_dataloader'].update(batch_size=5)
    with pytest.raises(PreflightError, match=r'got 5 = 1 processes x 5 images where the checkpoint has 2 from 1'):
        train(run, resume=checkpoint)
    run['train_dataloader'].update(batch_size=2)
    monkeypatch.setattr('interrupted_run.PICTURES', PICTURES - 2)
    with pytest.raises(PreflightError, match=r'got 5 -> 4 iterations per epoch'):
        train(run, resume=checkpoint)


def test_other_processes_and_data_of_a_run_without_epochs_are_said(tmp_path):
    run = settings(tmp_path, by_epoch=False)
    checkpoint = interrupted(run, at=6)
    loaded = torch.load(checkpoint, weights_only=True)
    loaded['meta']['run'].update(processes=2, iterations_per_epoch=9)
    torch.save(loaded, checkpoint)
    runner = train(run, resume=checkpoint)
    (log,) = Path(runner.log_dir).glob('*.log')
    assert 'resumed with 1 processes instead of 2, each with 2 images: the same batch size' in log.read_text()
    assert 'resumed with other data (9 -> 5 iterations per epoch)' in log.read_text()


def test_newest_checkpoint_that_is_broken_gives_way_to_the_one_before(tmp_path):
    """What tools/train.py --resume does; nothing starts over by itself."""
    choose = train_command._choose_checkpoint
    runner = SimpleNamespace(_resume=True, _load_from=None, work_dir=str(tmp_path), hooks=[])
    assert choose(runner) == [f'NOTHING TO RESUME in {tmp_path}: training starts from the beginning']
    assert not runner._resume
    runner._resume = True
    torch.save(dict(meta={}, message_hub={}, state_dict={}), tmp_path / 'epoch_1.pth')
    content = (tmp_path / 'epoch_1.pth').read_bytes()
    (tmp_path / 'epoch_2.pth').write_bytes(content[: len(content) // 2])
    (tmp_path / 'last_checkpoint').write_text('epoch_2.pth')
    fault, choice = choose(runner)
    assert 'epoch_2.pth' in fault
    assert choice == f'so the run goes on from {tmp_path / "epoch_1.pth"}'
    assert runner._load_from == str(tmp_path / 'epoch_1.pth')

    runner._load_from = None
    (tmp_path / 'epoch_1.pth').write_bytes(b'')
    with pytest.raises(PreflightError, match=r'(?s)no checkpoint in .* can be resumed:\n .*epoch_2\.pth.*epoch_1\.pth'):
        choose(runner)


def samplers():
    class Sizes(list):
        def get_data_info(self, i):
            return dict(width=2 + i * i % 5, height=4)

    pictures = Sizes(range(23))

    def by_aspect_ratio():
        from mmdet.datasets.samplers import AspectRatioBatchSampler

        return AspectRatioBatchSampler(DefaultSampler(pictures, seed=1), 3)

    return dict(
        default=lambda: BatchSampler(DefaultSampler(pictures, seed=1), 3, False),
        infinite=lambda: BatchSampler(InfiniteSampler(pictures, seed=1), 3, False),
        pytorch=lambda: BatchSampler(RandomSampler(pictures), 3, True),
        aspect_ratio=by_aspect_ratio,
    )


@pytest.mark.parametrize('name', list(samplers()))
def test_batches_can_be_counted_instead_of_loaded(name):
    make, endless = samplers()[name], name == 'infinite'

    def some(passed, number=50):
        batches = NumberedBatches(make(), seed=4, rank=0, endless=endless)
        batches.start_at(number + passed, passed)
        return [(list(batch), batch.key) for batch, _ in zip(batches, range(30 - passed), strict=False)]

    whole = some(0)
    assert len(whole) == {'infinite': 30, 'pytorch': 7}.get(name, 8)
    for passed in range(len(whole) + 1):
        assert some(passed) == whole[passed:]
    assert [key[-1] for _, key in whole] == list(range(50, 50 + len(whole)))
    if name != 'pytorch':  # whose order hangs on the global state
        assert [batch for batch, _ in whole] == [list(batch) for batch, _ in zip(make(), range(30), strict=False)]


def test_passes_without_end_are_those_of_mmengine(monkeypatch):
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)

    def make():
        return BatchSampler(DefaultSampler(range(10), seed=2), 4, False)

    theirs = _InfiniteDataloaderIterator(DataLoader(range(10), batch_sampler=make()))
    ours = NumberedBatches(make(), seed=0, rank=0, endless=True)
    for mine, batch in zip(ours, range(12), strict=False):
        assert mine == next(theirs).tolist(), batch


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_numbers_follow_from_their_key_and_leave_no_trace():
    torch.manual_seed(1)
    seed_everything(1, 2, 3)
    first = draw()
    seed_everything(1, 2, 4)
    assert not set(first) & set(draw())
    seed_everything(1, 2, 4)
    with numbers_of(1, 2, 3):
        assert draw() == first
    inside = draw()
    seed_everything(1, 2, 4)
    assert draw() == inside
