"""Recipes on COCO train, are evaluated and predict, at a reduced size: narrow layers, four made-up pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import CachedMosaic
from mmengine.config import Config
from samples.small_models import narrow
from samples.tiny_training import CLASSES, DATA, ROOT, SIZES, write_data

from swin_mm.commands import train
from swin_mm.inference import Detector

COCO = [path.stem for path in sorted(ROOT.glob('configs/*.py')) if 'COCO' in path.read_text().partition('\n')[0]]
# test_stock_settings.py and test_simmim.py train the others.
COCO = [name for name in COCO if not name.startswith(('mask2former', 'dino')) and not name.endswith('simmim')]
# One of each family; `samples.tiny_training` trains mask_rcnn_swin_t.
FAST = {'cascade_mask_rcnn_swin_t', 'htc_swin_b', 'mask_reppointsv2_swin_t', 'retinanet_swin_t', 'rtmdet_swin_t'}


@pytest.mark.parametrize(
    'name', [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in COCO]
)
def test_it_trains_two_steps_and_predicts(name, tmp_path, monkeypatch):
    base = ROOT / f'configs/{name}.py'
    model = dict(narrow(Config.fromfile(base).model), _delete_=True)
    gives_masks = 'mask' in name or name.startswith('htc')
    lines = DATA if gives_masks else DATA.replace(', with_mask=True', '')
    Path(tmp_path, 'small.py').write_text(f"_base_ = '{base}'\nmodel = {model}\n{lines}")
    monkeypatch.chdir(tmp_path)
    data = write_data(tmp_path / 'data')
    train.main(['small.py', '--cfg-options', f'data_root={data}'])

    checkpoint = tmp_path / 'work_dirs/small/epoch_1.pth'
    loaded = torch.load(checkpoint, weights_only=True)
    states = loaded['optimizer']['state'].values()
    assert {int(state['step']) for state in states} == {2}
    assert np.mean([bool(state['exp_avg'].any()) for state in states]) > 0.9  # a class without a sample stands still
    assert all(value.isfinite().all() for value in loaded['state_dict'].values())

    (found,) = Detector('small.py', checkpoint, device='cpu')(data / 'images/0.jpg')
    assert found.boxes.shape == (5, 4)
    assert (None if found.masks is None else found.masks.shape) == ((5, *SIZES[0]) if gives_masks else None)


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
    model = dict(narrow(Config.fromfile(base).model), _delete_=True)
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
