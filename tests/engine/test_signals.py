"""A signal ends a training after its step, on every rank, with all of it saved; the log says how to go on."""

import multiprocessing
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from interrupted_run import Receives, config, differing, interrupted, outcome, train
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from samples.tiny_training import CONFIG, ROOT, trained

from swin_mm.engine import signals
from swin_mm.engine.newest import newest_checkpoint
from swin_mm.errors import CheckpointError

pytestmark = pytest.mark.usefixtures('quick_runner')
FORK = multiprocessing.get_context('fork')


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C is not ignored, as a shell makes what it starts in the background do."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def base(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


def log_of(tmp_path):
    return ''.join(path.read_text() for path in sorted(tmp_path.glob('*/*.log')))


def saved(tmp_path, name='interrupted.pth'):
    return torch.load(tmp_path / name, weights_only=True)


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGINT])
def test_signal_ends_a_training_after_its_step(tmp_path, number, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'a b.py', '--resume'])
    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    interrupted(config(tmp_path), at=2, number=number)
    assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before
    assert {key: saved(tmp_path)['meta'][key] for key in ('epoch', 'iter')} == dict(epoch=0, iter=3)
    assert newest_checkpoint(tmp_path) == (tmp_path / 'interrupted.pth', [])
    line = f"saved {tmp_path / 'interrupted.pth'}. Go on with: python tools/train.py 'a b.py' --resume\n"
    assert f'{number.name}: {line}' in log_of(tmp_path)


def test_second_ctrl_c_ends_at_once(tmp_path):
    class Twice(Receives):
        def before_train_iter(self, *args, **kwargs):
            for _ in range(2):
                super().before_train_iter(*args, **kwargs)
                time.sleep(0.1)  # with other threads about, Python may run a signal's handler a little later

    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path), (Twice(2, signal.SIGINT),))
    assert not list(tmp_path.glob('*.pth'))


class Raises(Exception):
    """What the program's own handler of SIGTERM does."""


@pytest.mark.parametrize('copies', [0.0, 60.0])
def test_second_sigterm_ends_at_once_unless_it_is_a_copy(tmp_path, monkeypatch, copies):
    class Twice(Receives):
        def before_train_iter(self, *args, **kwargs):
            for _ in range(2):
                super().before_train_iter(*args, **kwargs)
                time.sleep(0.1)

    def handler(number, frame):
        raise Raises

    monkeypatch.setattr(signals, 'COPIES', copies)
    previous = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(signals.Stopped if copies else Raises):
            train(config(tmp_path), (Twice(2, signal.SIGTERM),))
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert bool(list(tmp_path.glob('interrupted.pth'))) == bool(copies)


def test_a_training_that_fails_gives_everything_back(tmp_path):
    class Fails(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 2:
                found.append(runner)
                raise ZeroDivisionError

    found = []
    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    settings = config(tmp_path)
    settings['custom_hooks'] += [dict(type='swin_mm.FiniteLosses')]
    with pytest.raises(ZeroDivisionError):
        train(settings, (Fails(),))
    assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before
    (runner,) = found
    assert 'update_params' not in vars(runner.optim_wrapper)
    assert 'run_iter' not in vars(runner.train_loop)
    assert not any('after_train_iter' in vars(hook) for hook in runner.hooks)


def test_an_interruption_ends_the_other_hooks_as_well(tmp_path):
    class Ends(Hook):
        def after_train(self, runner):
            ended.append('train')

        def after_run(self, runner):
            ended.append('run')

    ended = []
    with pytest.raises(signals.Stopped):
        train(config(tmp_path), (Ends(), Receives(2, signal.SIGTERM)))
    assert ended == ['train', 'run']
    assert (tmp_path / 'interrupted.pth').exists()


def test_signal_that_is_ignored_stays_ignored(tmp_path):
    """As in ``nohup python tools/train.py ... &``."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert train(config(tmp_path), (Receives(2, signal.SIGINT),)).iter == 15
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_training_in_a_thread_runs_without_signals(tmp_path):
    settings = config(tmp_path, by_epoch=False)
    settings['train_cfg']['max_iters'] = 2
    thread = threading.Thread(target=train, args=[settings])
    thread.start()
    thread.join()
    assert saved(tmp_path, 'iter_2.pth')['meta']['iter'] == 2


def test_step_of_several_batches_is_finished(tmp_path):
    settings = config(tmp_path)
    settings['optim_wrapper']['accumulative_counts'] = 4
    interrupted(settings, at=1)
    assert saved(tmp_path)['meta']['iter'] == 4


@METRICS.register_module()
class Nothing(BaseMetric):
    """A metric without a value."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(zero=0.0)


def test_validation_is_finished_first(tmp_path):
    class ReceivesInValidation(Hook):
        def before_val_iter(self, runner, batch_idx, data_batch=None):
            if batch_idx == 1:
                signal.raise_signal(signal.SIGTERM)

    settings = config(tmp_path)
    loader = dict(settings['train_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False))
    settings.update(val_dataloader=loader, val_cfg={}, val_evaluator=dict(type='Nothing'))
    with pytest.raises(signals.Stopped):
        train(settings, (ReceivesInValidation(),))
    assert 'SIGTERM: the run stops after this validation' in log_of(tmp_path)
    at_the_end, after = saved(tmp_path, 'epoch_1.pth'), saved(tmp_path)
    assert (after['meta']['epoch'], after['meta']['iter']) == (1, 5)
    for key in ('state_dict', 'ema_state_dict'):
        assert differing(at_the_end[key], after[key]) == []


def test_what_could_not_be_saved_is_no_success(tmp_path, monkeypatch):
    def full(self, obj, filepath):
        raise OSError(28, 'No space left on device', filepath)

    class Fills(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 6:
                monkeypatch.setattr('swin_mm.engine.atomic.AtomicBackend.put', full)

    with pytest.raises(CheckpointError, match=r'SIGTERM ended the run at iteration 8, and interrupted\.pth was not'):
        train(config(tmp_path), (Fills(), Receives(7, signal.SIGTERM)))
    assert 'No space left on device' in log_of(tmp_path)
    assert newest_checkpoint(tmp_path) == (tmp_path / 'epoch_1.pth', [])


@pytest.mark.parametrize(
    ('argv', 'command'),
    [
        ('tools/train.py c.py', 'tools/train.py c.py --resume'),
        ('tools/train.py c.py --resume --amp', 'tools/train.py c.py --amp --resume'),
        ('tools/train.py c.py --resume a.pth --amp', 'tools/train.py c.py --amp --resume'),
        ('tools/train.py --resume=a.pth c.py', 'tools/train.py c.py --resume'),
        ("t.py c.py --cfg-options a='x y' b=1", "t.py c.py --cfg-options 'a=x y' b=1 --resume"),
    ],
)
def test_command_line_that_goes_on(argv, command):
    assert signals.resume_command(shlex.split(argv), {}) == f'python {command}'


TORCHRUN = {'TORCHELASTIC_RUN_ID': 'none', 'LOCAL_WORLD_SIZE': '4'}
NODES = TORCHRUN | {'GROUP_WORLD_SIZE': '2', 'GROUP_RANK': '1', 'MASTER_ADDR': '10.0.0.1', 'MASTER_PORT': '29500'}


@pytest.mark.parametrize(
    ('program', 'environment', 'command'),
    [
        ('tools/train.py', {}, 'python tools/train.py'),
        ('swin-mm train', {}, 'swin-mm train'),
        ('python -m swin_mm train', {}, 'python -m swin_mm train'),
        ('my tools/train.py', {}, "python 'my tools/train.py'"),
        ('python -m swin_mm train', TORCHRUN, 'torchrun --nproc_per_node=4 -m swin_mm train'),
        ('tools/train.py', TORCHRUN, 'torchrun --nproc_per_node=4 tools/train.py'),
        ('swin-mm train', TORCHRUN, 'torchrun --nproc_per_node=4 -m swin_mm train'),
        (
            'swin-mm train',
            NODES,
            'torchrun --nproc_per_node=4 --nnodes=2 --node_rank=1 --master_addr=10.0.0.1 --master_port=29500'
            ' -m swin_mm train',
        ),
    ],
)
def test_the_command_that_goes_on_is_the_one_that_started(program, environment, command):
    assert signals.resume_command([program, 'a.py', '--amp'], environment) == f'{command} a.py --amp --resume'


def _work(pipe):
    signals._outlive_signals(None, 0)
    while True:
        pipe.send(pipe.recv())


def test_worker_outlives_signals_but_those_of_its_training():
    here, there = FORK.Pipe()
    worker = FORK.Process(target=_work, args=[there], daemon=True)
    worker.start()
    here.send('started')
    assert here.recv() == 'started'
    for name in ('TERM', 'INT', 'USR1'):
        subprocess.run(['kill', f'-{name}', str(worker.pid)], check=True)
        here.send(name)
        assert here.poll(20)
        assert here.recv() == name
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


class Tells(Hook):
    """Makes ``file`` when iteration ``at`` begins, or the first one; each step takes a little longer."""

    def __init__(self, file, at=None):
        self.file, self.at = file, at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.at in (None, runner.iter):
            self.file.touch()
        time.sleep(0.02)


def _wait_for(file, process):
    while not file.exists():
        assert process.is_alive()
        time.sleep(0.01)


def _in_a_child(tmp_path, hooks, epochs):
    """A process that goes on with the training in ``tmp_path``, or begins it, and leaves its outcome there."""

    def child():
        settings = config(tmp_path)
        settings['train_cfg']['max_epochs'] = epochs
        checkpoint, faults = newest_checkpoint(tmp_path)
        assert not faults
        runner = train(settings, hooks, checkpoint and str(checkpoint))
        torch.save(outcome(runner), tmp_path / 'outcome.pt')

    process = FORK.Process(target=child)
    process.start()
    return process


@pytest.mark.slow
def test_fifty_random_interruptions_change_nothing(tmp_path):
    """Half of them SIGTERM, half of them kill -9, each up to 0.6 s after the first step."""
    epochs, draws = 150, random.Random(0)
    whole, often = tmp_path / 'whole', tmp_path / 'often'
    for folder in (whole, often):
        folder.mkdir()
    _in_a_child(whole, (), epochs).join()
    ends = []
    for number in range(50):
        started = often / f'started{number}'
        process = _in_a_child(often, (Tells(started),), epochs)
        _wait_for(started, process)
        time.sleep(draws.uniform(0, 0.6))
        os.kill(process.pid, draws.choice([signal.SIGTERM, signal.SIGKILL]))
        process.join()
        ends.append(process.exitcode)
    iteration = torch.load(newest_checkpoint(often)[0], weights_only=True)['meta']['iter']
    _in_a_child(often, (), epochs).join()
    print(f'{ends.count(0)} ended with status 0, {ends.count(-9)} were killed, the last at iteration {iteration}')
    assert set(ends) == {0, -9}
    assert iteration < 5 * epochs
    assert differing(torch.load(whole / 'outcome.pt'), torch.load(often / 'outcome.pt')) == []


def _rank(rank, tmp_path, hooks, name):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.distributed.init_process_group('gloo', f'file://{tmp_path}/{name}.store', rank=rank, world_size=2)
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    settings = config(tmp_path, workers=1, launcher='pytorch', model_wrapper_cfg=wrapper)
    settings['train_dataloader']['drop_last'] = True  # one picture has no running statistics
    settings['train_cfg']['max_epochs'] = 8
    checkpoint = tmp_path / 'interrupted.pth'
    runner = train(settings, hooks, str(checkpoint) if checkpoint.exists() else None)
    torch.save(outcome(runner), tmp_path / f'{name}_{rank}.pt')


def _two_ranks(tmp_path, hooks, name):
    ranks = [FORK.Process(target=_rank, args=[rank, tmp_path, hooks, name]) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    return ranks


@pytest.mark.slow
def test_signal_to_one_rank_ends_both(tmp_path):
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    for folder in (whole, run):
        folder.mkdir()
    started = run / 'started'
    for rank in _two_ranks(whole, (), 'end'):
        rank.join()
    ranks = _two_ranks(run, (Tells(started, 3),), 'first')
    _wait_for(started, ranks[0])
    os.kill(ranks[1].pid, signal.SIGTERM)
    begin = time.monotonic()
    for rank in ranks:
        rank.join(60)
    print(f'both ended after {time.monotonic() - begin:.2f} s')
    assert [rank.exitcode for rank in ranks] == [0, 0]
    assert 3 < saved(run)['meta']['iter'] < 16
    assert saved(run)['meta']['run'] == dict(processes=2, batch_size=4, iterations_per_epoch=2)
    for rank in _two_ranks(run, (), 'end'):
        rank.join()
    for rank in (0, 1):
        a, b = (torch.load(folder / f'end_{rank}.pt') for folder in (whole, run))
        # Each rank has running statistics of its own, which it does not train with; rank 0's are those of the model.
        assert [name for name in differing(a, b) if rank == 0 or 'running_' not in name] == []


@pytest.mark.slow
def test_line_in_the_log_goes_on_with_a_detector(base, tmp_path):
    """tools/train.py with workers; SIGTERM goes to its whole process group, as of a job that is preempted."""
    tiny = trained(base)
    steps = "[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True), "
    steps += "dict(type='RandomFlip', prob=0.5), resize, dict(type='PackDetInputs')]"
    text = CONFIG.replace('num_workers=0, persistent_workers=False', 'num_workers=2, persistent_workers=True', 1)
    text = text.replace('train_pipeline = [', f'train_pipeline = {steps}\nunused = [').replace(
        'max_epochs=1', 'max_epochs=9'
    )
    text = text.replace('randomness', 'train_cfg.update(val_interval=9)\nrandomness')
    (tmp_path / 'flips.py').write_text(text)
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}

    def start(*words):
        return subprocess.Popen(
            words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def command(name):
        script = [sys.executable, str(ROOT / 'tools/train.py'), 'flips.py', '--work-dir', name]
        return [*script, '--cfg-options', f'data_root={tiny.data}']

    assert start(*command('whole')).wait() == 0
    process = start(*command('run'))
    for line in process.stdout:
        if 'Epoch(train) [4][1/2]' in line:
            break
    os.killpg(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    (line,) = re.findall('Go on with: python (.*)', output)
    output = start(sys.executable, *shlex.split(line)).communicate()[0]
    assert 'Epoch(train) [1][' not in output
    a, b = (saved(tmp_path, f'{name}/epoch_9.pth') for name in ('whole', 'run'))
    assert differing(a['state_dict'], b['state_dict']) == []
