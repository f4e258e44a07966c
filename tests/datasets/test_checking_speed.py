"""How long a check of COCO's training set would take, and how much memory: no more than the training itself needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_annotations_of_cocos_size_take_two_minutes_and_four_gigabytes_at_most(tmp_path):
    script, tests = Path(__file__).parent / 'big_data.py', Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, script, tmp_path / 'big'],
        env=os.environ | {'PYTHONPATH': paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(f'{report["seconds"]:.0f} s, {report["cpu_seconds"]:.0f} s of a core, {report["peak"] / 2**30:.2f} GiB')
    assert (report['errors'], report['warnings']) == (0, 0)
    assert report['cpu_seconds'] < 120  # of all threads: others may use the machine too
    assert report['peak'] < 4 * 2**30
