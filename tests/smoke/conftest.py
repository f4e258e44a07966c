"""What the smoke tests share: Python in a process of its own, and a short run that is trained once a session."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

STEPS = 20
# Shortens the small recipe: 40 pictures in pairs, and the best 5 boxes of a picture whatever their scores.
CONFIG = """
_base_ = '{root}/configs/mask_rcnn_swin_pico_shapes.py'
data_root = '{folder}/shapes/'
train_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root, indices={pictures}))
test_dataloader = dict(dataset=dict(data_root=data_root, indices=4))
test_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
val_cfg = val_dataloader = val_evaluator = None
model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)))
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
randomness = dict(seed=0)
"""


@pytest.fixture(scope='session')
def run_python(root: Path) -> Callable[..., str]:
    """Runs Python with arguments in a folder and returns what it printed; a status other than those allowed fails."""

    def run(folder: Path, *arguments: str | Path, allowed: tuple[int, ...] = (0,)) -> str:
        # With one thread: two that wait for each other beside other work can take fifty times as long.
        environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in allowed, done.stdout[-2000:] + done.stderr[-6000:]
        return done.stdout

    return run


@pytest.fixture(scope='session')
def short_run(root: Path, run_python: Callable[..., str], tmp_path_factory) -> SimpleNamespace:
    """A short training by tools/train.py: folder, config, number of steps, what was printed, and the checkpoint."""
    folder = tmp_path_factory.mktemp('short')
    config = folder / 'short.py'
    config.write_text(CONFIG.format(root=root, folder=folder, pictures=2 * STEPS))
    printed = run_python(folder, root / 'tools/train.py', config, '--work-dir', 'run')
    checkpoint = folder / 'run/epoch_1.pth'
    return SimpleNamespace(folder=folder, config=config, steps=STEPS, printed=printed, checkpoint=checkpoint)
