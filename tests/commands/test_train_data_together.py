"""``train --data`` in two processes: the first one writes, the other waits."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from samples.own_data import write_coco
from samples.tiny_training import ROOT

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason='PyTorch was built without gloo')
# A training that stops as soon as it has a config; `write` is slow, and says who ran it.
SCRIPT = """
import os, pathlib, sys, time
from swin_mm.commands import init, launch, train

def write(data, model):
    pathlib.Path(f'wrote_{os.environ["RANK"]}').touch()
    time.sleep(1)
    return init_write(data, model)

def load_config(args):
    pathlib.Path(f'read_{os.environ["RANK"]}').write_text(pathlib.Path(args.config).read_text())
    for name in ('train', 'val'):
        assert pathlib.Path(f'toys_data/{name}.json').is_file()
    sys.exit(0)

init_write, init.write, launch.load_config = init.write, write, load_config
train.main(sys.argv[1:])
"""


@pytest.fixture
def launch(tmp_path):
    """Runs ``torchrun`` with two processes in ``tmp_path``; gives the exit status and what they printed."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    environment = dict(OMP_NUM_THREADS='1', GLOO_SOCKET_IFNAME='lo', PYTHON=sys.executable, PORT=port)
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])

    def launch(command: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **environment, 'PYTHONPATH': paths},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr

    launch.torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={port}']
    return launch


def test_the_first_writes_and_both_read(launch, tmp_path):
    write_coco(tmp_path / 'toys', train=6, val=0)
    Path(tmp_path / 'script.py').write_text(SCRIPT)
    status, said = launch([*launch.torchrun, 'script.py', '--data', 'toys', '--launcher', 'pytorch'])
    assert status == 0, said[-3000:]
    assert [path.name for path in tmp_path.glob('wrote_*')] == ['wrote_0']
    texts = [(tmp_path / f'read_{rank}').read_text() for rank in (0, 1)]
    assert texts[0] == texts[1] == (tmp_path / 'toys.py').read_text()
    assert said.count('Found:') == 1
    assert sorted(path.name for path in (tmp_path / 'toys_data').iterdir()) == ['train.json', 'val.json']


def test_what_the_first_cannot_write_ends_both_with_one_reason(launch):
    status, said = launch(['bash', str(ROOT / 'tools/dist_train.sh'), 'mask_rcnn', '2', '--data', 'nowhere'])
    assert status != 0
    assert said.count('--data nowhere is not there') == 1
    assert 'train.py: the first process' not in said


@pytest.mark.slow
def test_two_processes_train_on_data_with_no_config(launch, tmp_path):
    write_coco(tmp_path / 'toys', train=10, val=0)
    command = ['bash', str(ROOT / 'tools/dist_train.sh'), 'mask_rcnn_swin_pico_shapes', '2', '--data', 'toys']
    status, said = launch([*command, '--cfg-options', 'train_cfg.max_epochs=1'])
    assert status == 0, said[-3000:]
    assert (tmp_path / 'work_dirs/toys/epoch_1.pth').is_file()
