"""A training that is killed at any moment, or whose disk is full, loses nothing that was saved."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kill_run import make_runner, state
from mmengine.hooks import Hook

from swin_mm.engine.newest import newest_checkpoint
from swin_mm.errors import CheckpointError

HERE = Path(__file__).parent


@pytest.mark.parametrize('kills', [3, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_training_loses_nothing(tmp_path, kills):
    """The script asserts after each kill; see there."""
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, str(HERE / 'kill_run.py'), str(tmp_path), str(kills), '0'],
        env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result['kills'], result['lost']) == (kills, 0)


class Filler(Hook):
    """Fills the disk up to a random number of bytes before every epoch, and is told which epochs were saved."""

    priority = 'LOWEST'

    def __init__(self, disk: Path, most: int):
        self.file, self.most, self.chance = disk / 'filler', most, random.Random(0)
        self.saved, self.failed, self.found = 0, 0, 0

    def before_train_epoch(self, runner):
        self.file.unlink(missing_ok=True)
        free = shutil.disk_usage(self.file.parent).free - self.chance.choice([0, self.chance.randrange(self.most)])
        self.file.write_bytes(bytes(max(free, 0)))

    def after_train_epoch(self, runner):
        (hook,) = [hook for hook in runner.hooks if hasattr(hook, 'failures')]
        if 'last' in hook.failures:
            self.failed += 1
        else:
            self.saved = runner.epoch + 1
        self.check(runner)

    def after_val_epoch(self, runner, metrics=None):
        self.check(runner)

    def check(self, runner):
        path, passed_over = newest_checkpoint(runner.work_dir)
        assert not passed_over
        assert (state(path)[0] if path else 0) >= self.saved
        for file in Path(runner.work_dir).glob('*.pth'):
            state(file)
        self.found += 1


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f'a small file system cannot be mounted here: {mounted.stderr.decode().strip()}')
    try:
        filler = Filler(disk, most=10**6)
        try:
            make_runner(disk / 'run', 60, 128, [filler]).train()
        except CheckpointError as error:
            assert 'not everything was saved' in str(error)  # noqa: PT017
        assert filler.found == 120
        assert 10 < filler.failed < 50
        filler.file.unlink()
        make_runner(disk / 'run', 61, 128, resume=True).train()
        epoch, tensors = state(disk / 'run' / 'epoch_61.pth')
        make_runner(tmp_path / 'other', 61, 128).train()
        for key, value in state(tmp_path / 'other' / 'epoch_61.pth')[1].items():
            assert torch.equal(tensors[key], value), key
        assert epoch == 61
    finally:
        subprocess.run(['umount', '--lazy', str(disk)], check=True)  # the log of the run is still open
