"""Recipes on COCO train, are evaluated and predict, at a reduced size: narrow layers, four made-up pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import CachedMosaic
from mmengine.config import Config
from samples.narrow_recipes import FOUND, smallest_detector
from samples.tiny_training import CLASSES, DATA, ROOT, SIZES, write_data

from swin_mm.commands import train
from swin_mm.inference import Detector

COCO = [path.stem for path in sorted(ROOT.glob('configs/*.py')) if 'COCO' in path.read_text().partition('\n')[0]]
# test_other_data.py trains the panoptic one, test_simmim.py these.
COCO = [name for name in COCO if not name.endswith(('panoptic', 'simmim'))]
# One of each family; `samples.tiny_training` trains mask_rcnn_swin_t.
FAST = {'cascade_mask_rcnn_swin_t', 'htc_swin_b', 'mask_reppointsv2_swin_t', 'retinanet_swin_t', 'rtmdet_swin_t'}
# For a recipe that counts iterations, in the place of the epoch that `DATA` says.
ITERATIONS = """
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


def gives_masks(name: str) -> bool:
    return 'mask' in name or name.startswith('htc')


def write_config(name: str) -> str:
    """Writes small.py, the recipe ``name`` for two iterations on what `write_data` writes; names its checkpoint."""
    base = ROOT / f'configs/{name}.py'
    recipe = Config.fromfile(base)
    by_epoch = recipe.train_cfg.get('type') != 'IterBasedTrainLoop'
    lines = DATA if gives_masks(name) else DATA.replace(', with_mask=True', '')
    model = dict(smallest_detector(recipe.model), _delete_=True)
    Path('small.py').write_text(f"_base_ = '{base}'\nmodel = {model}\n{lines}{'' if by_epoch else ITERATIONS}")
    return 'epoch_1.pth' if by_epoch else 'iter_2.pth'


@pytest.mark.parametrize(
    'name', [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in COCO]
)
def test_it_trains_two_steps_and_predicts(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / 'work_dirs/small' / write_config(name)
    data = write_data(tmp_path / 'data')
    train.main(['small.py', '--cfg-options', f'data_root={data}'])

    loaded = torch.load(checkpoint, weights_only=True)
    states = loaded['optimizer']['state'].values()
    assert {int(state['step']) for state in states} == {2}
    assert np.mean([bool(state['exp_avg'].any()) for state in states]) > 0.9  # a class without a sample stands still
    assert all(value.isfinite().all() for value in loaded['state_dict'].values())

    (found,) = Detector('small.py', checkpoint, device='cpu')(data / 'images/0.jpg')
    assert found.boxes.shape == (FOUND, 4)
    assert (None if found.masks is None else found.masks.shape) == ((FOUND, *SIZES[0]) if gives_masks(name) else None)


@pytest.mark.slow
def test_rtmdet_puts_pictures_together_until_its_last_epochs(tmp_path, monkeypatch):
    """With the recipe's own pipelines, in a worker process, which is started anew for the other one."""
    base, read = ROOT / 'configs/rtmdet_swin_t.py', tmp_path / 'put_together.txt'
    together = CachedMosaic.transform

    def count(self, results):
        with read.open('a') as file:
            file.write('.')
        return together(self, results)

    monkeypatch.setattr(CachedMosaic, 'transform', count)
    model = dict(smallest_detector(Config.fromfile(base).model), _delete_=True)
    data = write_data(tmp_path / 'data')
    images = f"dict(data_root='{data}', ann_file='instances.json', data_prefix=dict(img='images/'),"
    Path(tmp_path, 'small.py').write_text(
        f"""_base_ = '{base}'
model = {model}
train_dataloader = dict(batch_size=2, num_workers=1, dataset={images} metainfo=dict(classes={CLASSES})))
train_cfg = dict(max_epochs=2)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(checkpoint=dict(interval=1), plain=dict(switch_epoch=1))
"""
    )
    monkeypatch.chdir(tmp_path)
    train.main(['small.py'])
    assert len(read.read_text()) == len(SIZES)  # once for each picture of the first epoch
    loaded = torch.load(tmp_path / 'work_dirs/small/epoch_2.pth', weights_only=True)
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {4}
    assert loaded['ema_state_dict']


@pytest.mark.slow
def test_a_recipe_that_counts_iterations_is_evaluated_saved_and_goes_on(tmp_path, monkeypatch):
    """Evaluated every second iteration, saved every third and at the end, where the next run goes on."""
    monkeypatch.chdir(tmp_path)
    write_config('mask2former_swin_t_instance')
    data = write_data(tmp_path / 'data')
    settings = [f'data_root={data}', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=3']
    train.main(['small.py', '--cfg-options', *settings, 'train_cfg.max_iters=4'])
    train.main(['small.py', '--resume', '--cfg-options', *settings, 'train_cfg.max_iters=6'])

    folder = tmp_path / 'work_dirs/small'
    assert sorted(path.name for path in folder.glob('*.pth')) == ['iter_3.pth', 'iter_4.pth', 'iter_6.pth']
    logs = [path.read_text().splitlines() for path in sorted(folder.glob('*/vis_data/scalars.json'))]
    trained, evaluated = [], []
    for line in map(json.loads, [line for log in logs for line in log]):
        (trained if 'loss' in line else evaluated).append(line['step'])
    assert trained == [1, 2, 3, 4, 5, 6]
    assert evaluated == [2, 4, 6]
