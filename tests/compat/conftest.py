"""What the tests of `swin_mm.compat` share: the devices, boxes, and a fresh Python."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

CUDA = pytest.param(
    'cuda', marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')]
)


@pytest.fixture(params=['cpu', CUDA])
def device(request) -> str:
    return request.param


@pytest.fixture
def make_boxes() -> Callable[..., Tensor]:
    """Makes (N, 4) boxes on a grid of whole pixels, so that many overlaps are equal and some are simple fractions."""

    def make(count: int, device: str = 'cpu') -> Tensor:
        corner, side = torch.randint(0, 12, (count, 2)), torch.randint(1, 9, (count, 2))
        return torch.cat([corner, corner + side], 1).float().to(device)

    return make


@pytest.fixture
def run_python(root: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs code in a fresh Python, with folders put before everything else on its path; returns what it printed."""

    def run(code: str, *folders: Path, options: tuple[str, ...] = ()) -> str:
        path = os.pathsep.join([*map(str, folders), str(root)])
        env = {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', 'TORCH_HOME': str(tmp_path / 'torch_home')}
        done = subprocess.run(
            [sys.executable, *options, '-c', code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
