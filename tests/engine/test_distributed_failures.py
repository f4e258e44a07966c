"""What ends a run from outside: two gloo ranks of which one fails, data loaders that hang, workers that die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from failing_rank import RANKS, STEPS, WHEN
from tiny_run import Batches, batches, make_runner

from swin_mm.engine.failures import NamedFailures, explanation
from swin_mm.errors import RunError

SCRIPT = Path(__file__).with_name('failing_rank.py')
needs_gloo = pytest.mark.skipif(not dist.is_gloo_available(), reason='PyTorch was built without gloo')


def run_ranks(folder, fault: str, *seconds: str, limit: float = 60.0):
    """(exit status, output) of each rank, once all but stopped ones have ended; fails after ``limit`` seconds."""
    command = [sys.executable, str(SCRIPT), str(folder / 'store')]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    ranks = []
    for rank in range(RANKS):
        with open(folder / f'out_{rank}', 'w') as out:
            arguments = [*command, str(rank), fault, str(folder), *seconds]
            ranks.append(subprocess.Popen(arguments, env=environment, stdout=out, stderr=out))
    try:
        wait_for = ranks[:-1] if fault == 'SIGSTOP' else ranks
        for process in wait_for:
            process.wait(limit)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return [(process.returncode, (folder / f'out_{rank}').read_text()) for rank, process in enumerate(ranks)]


def weights(folder) -> list[dict]:
    return [torch.load(folder / f'weights_{rank}.pth', weights_only=True) for rank in range(RANKS)]


@needs_gloo
def test_a_nan_on_one_rank_is_left_out_on_both(tmp_path):
    (status, output), (other_status, other_output) = run_ranks(tmp_path, 'nan')
    assert status == other_status == 0, output + other_output
    assert f'step {WHEN} is left out on all ranks: the loss of another rank is not finite (rank 0)' in output
    assert f'step {WHEN} is left out on all ranks: loss, loss_root not finite for row_' in other_output
    assert output.count('is left out') == other_output.count('is left out') == 1
    first, last = weights(tmp_path)
    for name, weight in first.items():
        assert weight.isfinite().all(), name
        if 'running' not in name:  # statistics of its own batches
            assert torch.equal(weight, last[name]), name
    assert first['norm.num_batches_tracked'] == last['norm.num_batches_tracked'] == STEPS - 1


@needs_gloo
@pytest.mark.slow
def test_nans_on_one_rank_end_both(tmp_path):
    ranks = run_ranks(tmp_path, 'nans')
    for status, output in ranks:
        assert status == 1
        assert 'RunError: 3 steps in a row were left out' in output
    files = sorted(path.name for path in tmp_path.glob('iter_*.pth'))
    assert files == [f'iter_{i}.pth' for i in range(1, WHEN + 2)]
    for path in tmp_path.glob('iter_*.pth'):
        state = torch.load(path, weights_only=True)['state_dict']
        assert all(value.isfinite().all() for value in state.values())


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize('fault', ['SIGKILL', 'SIGSTOP'])
def test_a_rank_that_dies_or_hangs_ends_the_other(tmp_path, fault):
    """A dead one at once, a hanging one after the time-out of the process group."""
    start = time.monotonic()
    (status, output), (other_status, _) = run_ranks(tmp_path, fault, '5' if fault == 'SIGSTOP' else '600')
    assert time.monotonic() - start < 60
    assert status == 1
    assert other_status == -signal.SIGKILL  # a stopped one is killed by this test
    assert 'RunError: rank 0 lost its connection to another rank, which died or hangs' in output
    assert (tmp_path / f'iter_{WHEN}.pth').is_file()


class Faulty(Batches):
    """Sleeps or dies in a worker when it is asked for row ``at``."""

    def __init__(self, at: int, how: str):
        super().__init__(batches(*[None] * 4))
        self.at, self.how = at, how

    def __getitem__(self, index):
        if index == self.at and torch.utils.data.get_worker_info():
            if self.how == 'sleep':
                time.sleep(3)
            os.kill(os.getpid(), getattr(signal, self.how))
        return super().__getitem__(index)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_hung_loader_ends_the_run(tmp_path, by_epoch):
    hooks = dict(failures=dict(type='swin_mm.NamedFailures', loader_timeout=0.5))
    train_cfg = dict(by_epoch=True, max_epochs=1) if by_epoch else dict(by_epoch=False, max_iters=4)
    runner = make_runner(tmp_path, Faulty(9, 'sleep'), dict(num_workers=1), hooks=hooks, train_cfg=train_cfg)
    with pytest.raises(RunError, match=r'gave a batch for 0\.5 s: the storage hangs'):
        runner.train()
    assert (tmp_path / 'iter_1.pth').is_file()


@pytest.mark.parametrize('how', ['SIGKILL', 'SIGBUS'])
def test_a_dead_worker_ends_the_run(tmp_path, how):
    runner = make_runner(tmp_path, Faulty(9, how), dict(num_workers=1))
    with pytest.raises(RunError, match=r'a worker process of the data loader died .*lower num_workers'):
        runner.train()


def test_a_loader_s_own_time_out_wins_and_one_without_workers_has_none(tmp_path):
    for i, (loader, timeout) in enumerate(
        [(dict(num_workers=1, timeout=7), 7), (dict(num_workers=1), 600), (dict(num_workers=0), 0)]
    ):
        runner = make_runner(tmp_path / str(i), Batches(batches(None)), loader)
        runner.train()
        assert runner.train_dataloader.timeout == timeout


def test_other_errors_pass_and_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match='loader_timeout must be > 0 seconds, got loader_timeout=0'):
        NamedFailures(loader_timeout=0)
    assert explanation(RuntimeError('size mismatch'), 1.0) is None
    wrapped = 'Caught RuntimeError in DataLoader worker process 0.\nDataLoader timed out'
    assert explanation(RuntimeError(wrapped), 1.0) is None
    runner = make_runner(tmp_path, Batches(torch.zeros(4, 5)))  # five features where the model has three
    with pytest.raises(RuntimeError, match='running_mean should contain') as failure:
        runner.train()
    assert not isinstance(failure.value, RunError)
