"""The scripts under their old paths: each runs the command of its clone, from anywhere."""

import os
import subprocess
import sys

import pytest
from samples.tiny_training import ROOT

SCRIPTS = {
    'tools/train.py': 'train',
    'tools/init_config.py': 'init',
    'tools/test.py': 'test',
    'tools/get_flops.py': 'flops',
    'tools/convert_checkpoint.py': 'convert',
    'tools/benchmark.py': 'benchmark',
    'demo/image_demo.py': 'predict',
}


def arguments(command: list[str], path) -> str:
    """What ``--help`` lists, without the program's name; Python looks for packages in ``path`` first."""
    env = os.environ | {'PYTHONPATH': str(path)}
    run = subprocess.run([*command, '--help'], cwd=path, env=env, capture_output=True, text=True, check=True)
    return run.stdout.partition('options:')[2]


@pytest.mark.parametrize('path', SCRIPTS)
def test_a_script_is_the_command_of_its_clone(path, tmp_path):
    """A second copy of the package, found first, would not be the clone's."""
    other = tmp_path / 'swin_mm'
    other.mkdir()
    (other / '__init__.py').write_text('raise ImportError("another copy")')
    listed = arguments([sys.executable, str(ROOT / path)], tmp_path)
    assert '--' in listed
    assert listed == arguments([sys.executable, '-m', 'swin_mm', SCRIPTS[path]], ROOT)


def test_every_script_is_known():
    assert {str(path.relative_to(ROOT)) for path in [*ROOT.glob('tools/*.py'), *ROOT.glob('demo/*.py')]} == set(SCRIPTS)
