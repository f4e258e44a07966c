"""Recipes that start from SimMIM's weights: a file as SimMIM writes it is loaded, and deeper layers learn faster."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from samples import tiny_segmentation, tiny_training
from samples.narrow_recipes import smallest_detector, smallest_segmentor
from samples.tiny_training import ROOT

from swin_mm.commands import train

RECIPES = {'mask_rcnn_swin_b_simmim': tiny_training, 'upernet_swin_b_simmim': tiny_segmentation}
LINES = {
    'mask_rcnn_swin_b_simmim': tiny_training.DATA,
    'upernet_swin_b_simmim': tiny_segmentation.CONFIG.partition('load_labels = ')[2].join(['load_labels = ', '']),
}


class CfgNode(dict):
    """A yacs config as Microsoft's trainers save it beside the weights: a dict with attributes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.__dict__['__immutable__'] = True


@pytest.fixture
def pretrained(make_swin, tmp_path, monkeypatch) -> Path:
    """What SimMIM's pretraining writes (its utils.py and simmim.py), for a narrow Swin with windows of 6."""
    net = make_swin(depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=6)
    state = {f'encoder.{key}': value for key, value in net.state_dict().items() if key[:4] != 'norm'}
    state |= {f'encoder.norm.{name}': torch.rand(64) for name in ('weight', 'bias')}
    state |= {'encoder.mask_token': torch.rand(1, 1, 8), 'decoder.0.weight': torch.rand(3072, 64, 1, 1)}
    state |= {'encoder.layers.0.blocks.0.attn.relative_position_index': torch.zeros(36, 36, dtype=torch.int64)}
    module = ModuleType('yacs.config')
    module.CfgNode, CfgNode.__module__ = CfgNode, 'yacs.config'
    monkeypatch.setitem(sys.modules, 'yacs.config', module)
    monkeypatch.setitem(sys.modules, 'yacs', ModuleType('yacs'))
    config = CfgNode(dict(MODEL=CfgNode(dict(TYPE='swin')), AMP_OPT_LEVEL='O1'))
    file = tmp_path / 'simmim_pretrain.pth'
    torch.save(dict(model=state, optimizer={}, lr_scheduler={}, max_accuracy=0.0, epoch=799, config=config), file)
    return file


def write_config(folder: Path, name: str, weights: Path) -> str:
    base = ROOT / f'configs/{name}.py'
    narrow = smallest_segmentor if name.startswith('upernet') else smallest_detector
    model = narrow(Config.fromfile(base).model, classes=len(RECIPES[name].CLASSES))
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=str(weights))
    config = folder / 'small.py'
    config.write_text(
        f"_base_ = '{base}'\ndata_root = 'not/here/'\nmodel = {dict(model, _delete_=True)}\n{LINES[name]}"
    )
    return str(config)


@pytest.mark.parametrize('name', RECIPES)
def test_a_file_of_simmim_is_where_the_backbone_starts(name, pretrained, tmp_path):
    cfg = Config.fromfile(write_config(tmp_path, name, pretrained))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    source = torch.load(pretrained, weights_only=False)['model']
    for key, value in model.backbone.state_dict().items():
        if key.endswith('relative_position_bias_table'):
            assert (len(value), len(source[f'encoder.{key}'])) == (13**2, 11**2)
            assert value.view(13, 13, -1)[6, 6].allclose(source[f'encoder.{key}'].view(11, 11, -1)[5, 5], atol=1e-5)
        elif key.startswith('norm'):
            assert value.eq(float(key.endswith('weight'))).all(), 'a classifier has no norms of maps'
        else:
            assert value.equal(source[f'encoder.{key}']), key


@pytest.mark.slow
@pytest.mark.parametrize('name', RECIPES)
def test_it_trains_two_steps_with_a_rate_for_each_layer(name, pretrained, tmp_path, monkeypatch):
    config = write_config(tmp_path, name, pretrained)
    monkeypatch.chdir(tmp_path)
    train.main([config, '--cfg-options', f'data_root={RECIPES[name].write_data(tmp_path / "data")}'])
    (file,) = (tmp_path / 'work_dirs/small').glob('[ei]*_[12].pth')  # epoch_1 or iter_2
    loaded = torch.load(file, weights_only=True)
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {2}
    assert all(value.isfinite().all() for value in loaded['state_dict'].values())
    rates = sorted({group['initial_lr'] for group in loaded['optimizer']['param_groups']}, reverse=True)
    full = Config.fromfile(config).optim_wrapper.optimizer.lr
    assert rates == pytest.approx([full * 0.8**above for above in range(6)])  # heads, 4 blocks, patch embedding
