"""What the official repositories gave, recorded: the backbone by every kernel, whole models, pipelines and mean IoU."""

import json
import os
import subprocess
import sys

import pytest
import torch

from swin_mm import SwinTransformer

FILES = ['swin_official_w7', 'swin_official_nobias']
REPPOINTS = ['mask_reppointsv2_swin_t', 'reppointsv2_swin_t']  # see test_reppoints_golden.py
MODELS = ['cascade_mask_rcnn_swin_t', 'mask_rcnn_swin_t', 'upernet_swin_t']


@pytest.mark.parametrize(
    ('command', 'passed'),
    [
        (['check_swin_official.py'], 5),
        (['check_official_models.py', *MODELS], len(MODELS)),
        (['check_official_pipeline.py'], 1),
    ],
    ids=['backbone', 'models', 'pipelines'],
)
def test_the_recorded_checker_passes(shared, root, command, passed):
    for package in ('safetensors', 'mmdet', 'mmseg'):
        pytest.importorskip(package)
    command = [sys.executable, shared / 'golden' / command[0], *command[1:]]
    environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f'{passed} passed, 0 failed'


def test_every_recorded_model_that_has_a_recipe_is_checked(shared, root):
    recorded = {path.stem.removeprefix('official_') for path in (shared / 'golden').glob('official_*.npz')}
    assert sorted(name for name in recorded if (root / 'configs' / f'{name}.py').exists()) == sorted(
        [*MODELS, *REPPOINTS]
    )


@pytest.mark.parametrize('kernel', ['auto', 'reference', 'sdpa', 'cpu'])
@pytest.mark.parametrize('file', FILES)
def test_every_kernel_gives_the_official_maps(shared, file, kernel):
    """The official spellings of the arguments, and the official weights with a strict load, as they are."""
    safe_open = pytest.importorskip('safetensors').safe_open
    with safe_open(shared / 'golden' / f'{file}.safetensors', 'pt') as f:
        meta, blob = f.metadata(), {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118  not a dictionary
    net = SwinTransformer(**json.loads(meta['official']), drop_path_rate=0.0, kernel=kernel)
    state = {key.removeprefix('state|'): value for key, value in blob.items() if key.startswith('state|')}
    net.load_state_dict(state, strict=True)
    net.eval().double()
    for n in range(int(meta['cases'])):
        maps = net(blob[f'case{n}|input'].double())
        assert len(maps) == sum(key.startswith(f'case{n}|out') for key in blob)
        for i, m in enumerate(maps):
            want = blob[f'case{n}|out{i}']
            assert m.shape == want.shape
            # recorded in float32, which is the only rounding
            torch.testing.assert_close(m.float(), want, rtol=1e-6, atol=1e-6 * float(want.std()))
