"""A training under FSDP on two processes is interrupted and resumed, and its checkpoint is that of a whole model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

SCRIPT = Path(__file__).with_name('sharded_run.py')


@pytest.mark.skipif(not dist.is_gloo_available(), reason='PyTorch was built without gloo')
def test_a_sharded_training_goes_on(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / 'store')]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    ranks = []
    for rank in ('0', '1'):
        with open(tmp_path / f'out_{rank}', 'w') as out:
            ranks.append(subprocess.Popen([*command, rank, str(tmp_path)], env=environment, stdout=out, stderr=out))
    try:
        ended = [process.wait(120) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert ended == [0, 0], (tmp_path / 'out_0').read_text()[-3000:] + (tmp_path / 'out_1').read_text()[-3000:]
