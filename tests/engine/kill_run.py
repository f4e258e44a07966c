"""Kills a training again and again, at random moments around its saves, and counts what was lost.

python kill_run.py WORK_DIR KILLS SEED prints one line of JSON; it fails at the first thing lost.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

import swin_mm.engine.saving  # noqa: F401
from swin_mm.engine.newest import newest_checkpoint, noted_checkpoint

KEPT = 2


class Regression(BaseModel):
    """A linear layer that counts its steps: each epoch is better than the one before."""

    def __init__(self, width: int):
        super().__init__()
        self.layer = torch.nn.Linear(width, width)
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def forward(self, *x, mode):
        if mode == 'predict':
            return [self.steps] * len(x)
        self.steps += 1
        return dict(loss=(self.layer(torch.stack(x)) - 1).square().mean())


class Steps(BaseMetric):
    """How many steps the model has been trained."""

    def process(self, data_batch, data_samples):
        self.results += [int(steps) for steps in data_samples]

    def compute_metrics(self, results):
        return dict(acc=results[0])


def make_runner(work_dir: Path, epochs: int, width: int = 8, hooks: list = (), checkpoint: dict | None = None, **rest):
    """A run of two iterations an epoch, whose weights depend on nothing but their number."""
    torch.manual_seed(0)
    loader = dict(
        dataset=list(torch.randn(4, width)),
        batch_size=2,
        num_workers=0,
        collate_fn=dict(type='pseudo_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    hook = dict(type='swin_mm.SafeCheckpointHook', interval=1, max_keep_ckpts=KEPT, save_best='acc', rule='greater')
    return Runner(
        model=Regression(width),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        val_evaluator=dict(type=Steps, prefix=None),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint={**hook, **(checkpoint or {})}),
        custom_hooks=[dict(type='EMAHook'), *hooks],
        randomness=dict(seed=1),
        default_scope='mmengine',
        experiment_name=f'{work_dir}_{time.monotonic_ns()}',
        **{'log_level': 'ERROR', **rest},
    )


class Report(Hook):
    """Says on a pipe what is done: an epoch is ``saved`` after the hook that saves it has returned."""

    priority = 'LOWEST'

    def __init__(self, pipe: int):
        self.pipe = pipe

    def say(self, *words):
        os.write(self.pipe, (' '.join(map(str, words)) + '\n').encode())

    def before_train(self, runner):
        self.say('started', runner.epoch)

    def after_train_epoch(self, runner):
        self.say('saved', runner.epoch + 1)

    def after_val_epoch(self, runner, metrics=None):
        self.say('best', runner.epoch)


def fork_run(work_dir: Path, epochs: int, width: int) -> tuple[int, int]:
    """(process, pipe to read from) of a run that goes on in ``work_dir``."""
    reading, writing = os.pipe()
    if process := os.fork():
        os.close(writing)
        return process, reading
    status = 1
    try:
        make_runner(work_dir, epochs, width, [Report(writing)], resume=True).train()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def read_line(pipe: int) -> str:
    """One line, or what there is before the end."""
    line = b''
    while not line.endswith(b'\n') and (byte := os.read(pipe, 1)):
        line += byte
    return line.decode()


def state(path: Path) -> tuple[int, dict]:
    """(epoch, tensors by name) of a whole checkpoint."""
    loaded = torch.load(path, weights_only=True)
    tensors = {f'{part}.{key}': loaded[part][key] for part in ('state_dict', 'ema_state_dict') for key in loaded[part]}
    for number, moments in loaded.get('optimizer', {}).get('state', {}).items():
        tensors.update({f'optimizer.{number}.{key}': value for key, value in moments.items()})
    return loaded['meta']['epoch'], tensors


def kill_once(work_dir: Path, width: int, reached: int, seconds: float) -> tuple[int, Counter]:
    """(the epoch that survives, what was found) after a run that goes on from epoch ``reached`` is killed."""
    left = list(work_dir.glob('.*.partial'))
    process, pipe = fork_run(work_dir, 10**6, width)
    started = read_line(pipe)
    assert started == f'started {reached}\n', f'{started!r} after epoch {reached}'
    assert not any(path.exists() for path in left), 'files of a killed run stay'
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    said = [line.split() for line in iter(lambda: read_line(pipe), '') if line.endswith('\n')]
    os.close(pipe)
    saved = max((int(epoch) for what, epoch in said if what == 'saved'), default=reached)

    path, passed_over = newest_checkpoint(work_dir)
    files = list(work_dir.glob('*.pth'))
    if path is None:
        assert (saved, files) == (0, [])
        return 0, Counter(before_the_first_save=1)
    assert not passed_over, passed_over
    survived, _ = state(path)
    assert survived >= saved, f'epoch {saved} was saved, {survived} is found'
    for file in files:
        state(file)
    noted = noted_checkpoint(work_dir)
    assert noted is None or noted.is_file()
    best = [int(file.stem.rpartition('_')[2]) for file in files if file.name.startswith('best')]
    assert max(best, default=0) >= max((int(epoch) for what, epoch in said if what == 'best'), default=0)
    return survived, Counter(
        epochs_saved=survived - reached,
        in_a_write=bool(list(work_dir.glob('.*.partial'))),
        before_the_note=path != noted,
        before_pruning=len(files) - len(best) > KEPT,
    )


def main(work_dir: Path, kills: int, seed: int, width: int = 512) -> None:
    """Kills ``kills`` times, then compares with a run that was left alone."""
    torch.set_num_threads(1)
    Runner._log_env = lambda *_: None  # starts compilers to ask for their versions
    make_runner(work_dir / 'unused', 1)  # imports what every run needs, once
    chance, reached, counted = random.Random(seed), 0, Counter()
    for _ in range(kills):
        reached, found = kill_once(work_dir, width, reached, chance.uniform(0, 0.25))
        counted += found
        print(dict(counted), file=sys.stderr)
    end = reached + 1
    for folder in (work_dir, work_dir / 'left_alone'):
        process, pipe = fork_run(folder, end, width)
        while read_line(pipe):
            pass
        assert os.waitpid(process, 0)[1] == 0
    (epoch, ours), (_, theirs) = (state(folder / f'epoch_{end}.pth') for folder in (work_dir, work_dir / 'left_alone'))
    assert epoch == end
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    print(json.dumps(dict(counted, kills=kills, lost=0, epochs=end)))


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
