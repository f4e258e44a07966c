"""Recipes on COCO train, are evaluated and predict, at a reduced size: narrow layers, four made-up pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from samples.tiny_training import DATA, ROOT, SIZES, write_data

from swin_mm.commands import train
from swin_mm.inference import Detector
from swin_mm.recipes import settings_within

COCO = [path.stem for path in sorted(ROOT.glob('configs/*.py')) if 'COCO' in path.read_text().partition('\n')[0]]
COCO = [name for name in COCO if not name.startswith(('mask2former', 'dino'))]  # test_stock_settings.py trains them
# One of each family; `samples.tiny_training` trains mask_rcnn_swin_t.
FAST = {'cascade_mask_rcnn_swin_t', 'htc_swin_b', 'mask_reppointsv2_swin_t', 'retinanet_swin_t'}
WIDTHS = ('in_channels', 'out_channels', 'feat_channels', 'conv_out_channels', 'fc_out_channels')
WIDTHS += ('proposal_feature_channel', 'feedforward_channels')


def narrow(model: ConfigDict) -> dict:
    """``model`` with a very small Swin, narrow heads for two classes, and the best 5 boxes of an image."""
    width = 64 if 'bbox_head' in model else 16  # 32 groups of a GroupNorm want two channels each
    model.backbone.update(arch=None, embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), init_cfg=None)
    for _, part in settings_within(model, 'model'):
        part.update({key: width for key in WIDTHS if isinstance(part.get(key), int)})
        if 'num_classes' in part:
            part.num_classes = 2
    model.neck.in_channels = [8 * 2**i for i in model.backbone.get('out_indices', range(4))]
    model.test_cfg.get('rcnn', model.test_cfg).update(score_thr=0.0, max_per_img=5)
    return model.to_dict()


@pytest.mark.parametrize(
    'name', [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in COCO]
)
def test_it_trains_two_steps_and_predicts(name, tmp_path, monkeypatch):
    base = ROOT / f'configs/{name}.py'
    model = dict(narrow(Config.fromfile(base).model), _delete_=True)
    Path(tmp_path, 'small.py').write_text(f"_base_ = '{base}'\nmodel = {model}\n{DATA}")
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
    gives_masks = 'mask' in name or name.startswith('htc')
    assert (None if found.masks is None else found.masks.shape) == ((5, *SIZES[0]) if gives_masks else None)
