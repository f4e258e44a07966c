"""``swin-mm predict`` in all formats takes no more memory for many images than for few."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from samples.pico_segmentor import picture

ROOT = Path(__file__).parents[2]
FORMATS = ('vis', 'json', 'coco', 'yolo', 'labelme', 'csv', 'masks', 'crops')
FEW, MANY = 200, 2000
MOST = 16  # MB; 5 was measured, and all pictures with their results take 45
# Says how much memory the process has after some images; what fills up at first is full after FEW.
PROGRAM = f"""
import sys
from swin_mm.commands import predict, predict_outputs

class Counting(predict_outputs.Progress):
    steps = 0

    def step(self):
        super().step()
        self.steps += 1
        if self.steps in ({FEW}, {MANY}):
            pages = int(open('/proc/self/statm').read().split()[1])
            print('resident', pages * 4096 // 1000, file=sys.stderr)

predict_outputs.Progress = Counting
sys.exit(predict.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_memory_is_flat_over_many_images(tiny, tmp_path):
    (tmp_path / 'in').mkdir()
    for i in range(MANY):
        Image.fromarray(picture(48, 64, seed=i)).save(tmp_path / f'in/{i:04}.jpg')
    command = ['in', str(tiny.config), str(tiny.checkpoint), '--pred-score-thr', '0', '--device', 'cpu']
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, *command, '--save', *FORMATS],
        cwd=tmp_path, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    few, many = (int(line.split()[1]) / 1000 for line in done.stderr.splitlines() if line.startswith('resident '))
    print(f'{few:.1f} MB after {FEW} images, {many:.1f} MB after {MANY}')
    assert many - few < MOST
