"""What the hooks of ``swin_mm.engine`` add to a step: two trainings take turns, one with and one without them."""

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from swin_mm.datasets.shapes.write import write_shapes

STEPS = 150


def step(run: subprocess.Popen) -> float:
    """Seconds of the next step of ``run``."""
    run.stdin.write('go\n')
    run.stdin.flush()
    for line in run.stdout:
        if line.startswith('STEP '):
            return float(line.split()[1])
    raise AssertionError(f'the run ended with status {run.wait()}')


@pytest.mark.slow
def test_a_step_with_all_hooks_takes_one_percent_more_at_most(tmp_path):
    write_shapes(tmp_path / 'data')
    script = Path(__file__).with_name('timed_run.py')
    runs = {
        hooks: subprocess.Popen(
            [sys.executable, script, tmp_path / 'data', tmp_path / hooks, hooks],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for hooks in ('with', 'without')
    }  # fmt: skip
    try:
        ratios = []
        for i in range(STEPS):
            order = list(runs) if i % 2 else list(runs)[::-1]
            took = {hooks: step(runs[hooks]) for hooks in order}
            if i >= 5:
                ratios.append(took['with'] / took['without'])
        print(f'median of {len(ratios)} ratios: {statistics.median(ratios):.4f}')
        assert statistics.median(ratios) <= 1.01
    finally:
        for run in runs.values():
            run.kill()
