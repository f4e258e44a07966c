"""tools/dist_train.sh and dist_test.sh: two processes on the CPU train one model."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from samples.tiny_training import CONFIG, ROOT

HOOK = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SaveWeightsOfRank(Hook):
    def before_train(self, runner):
        self.save(runner, 'before')

    def after_train(self, runner):
        self.save(runner, 'after')

    def save(self, runner, name):
        torch.save(runner.model.module.state_dict(), f'{name}_{get_rank()}.pth')

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        pictures = [sample.img_id for sample in data_batch['data_samples']]
        with open(f'pictures_{get_rank()}.txt', 'a') as file:
            file.write(''.join(f'{picture} ' for picture in pictures))
"""


@pytest.fixture
def launch(tiny, tmp_path):
    """Runs a script with a free port; its working directory is ``tmp_path``, two data loading pictures a process."""
    (tmp_path / 'save_weights.py').write_text(HOOK)
    (tmp_path / 'two.py').write_text(
        CONFIG + "custom_imports = dict(imports=['swin_mm', 'save_weights'], allow_failed_imports=False)\n"
        "custom_hooks = [dict(type='SaveWeightsOfRank')]\n"
    )
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    environment = dict(PYTHON=sys.executable, PORT=port, OMP_NUM_THREADS='1', PYTHONPATH=str(tmp_path))

    def launch(script, *args):
        done = subprocess.run(
            ['bash', str(ROOT / 'tools' / script), *args, '--cfg-options', f'data_root={tiny.data}'],
            cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    return launch


def test_two_processes_train_one_model_and_test_it(launch, tmp_path):
    output = launch('dist_train.sh', 'two.py', '2', '--work-dir', 'a folder')  # quoted on its way
    before, after = ([torch.load(tmp_path / f'{name}_{rank}.pth') for rank in (0, 1)] for name in ('before', 'after'))
    for name, weight in after[0].items():
        assert torch.equal(weight, after[1][name]), name
        assert torch.equal(before[0][name], before[1][name]), name
    assert sum(not torch.equal(after[0][name], before[0][name]) for name in after[0]) > 0.9 * len(after[0])
    seen = [(tmp_path / f'pictures_{rank}.txt').read_text().split() for rank in (0, 1)]
    assert sorted(seen[0] + seen[1]) == ['0', '1', '2', '3']  # each picture once, on one of them

    assert [path.name for path in tmp_path.glob('a folder/*.pth')] == ['epoch_1.pth']
    assert output.count('The batch size is 4 (2 processes x 2 images x 1 accumulated)') == 1
    saved = torch.load(tmp_path / 'a folder/epoch_1.pth', weights_only=True)['state_dict']
    assert all(torch.equal(saved[name], weight) for name, weight in after[0].items())

    output = launch('dist_test.sh', 'two.py', 'a folder/epoch_1.pth', '2', '--out', 'out.pkl')
    assert 'coco/bbox_mAP' in output
    assert (tmp_path / 'out.pkl').is_file()


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
def test_usage_is_said(script):
    done = subprocess.run(['bash', str(ROOT / 'tools' / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'usage:' in done.stderr
