"""Recipes on Cityscapes, Pascal VOC and LVIS: their data are held against the stock files of mmseg and mmdet."""

from importlib import import_module
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
CONFIGS = Path(__file__).parents[2] / 'configs'
SEGMENTATION = {'cityscapes': ('cityscapes', 19, (512, 1024)), 'voc12': ('pascal_voc12', 21, (512, 512))}
OURS = {'swin_mm.LoadImage': 'LoadImageFromFile', 'swin_mm.LoadLabels': 'LoadAnnotations'}
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def plain(settings):
    """``settings`` with mmseg's own loaders, and without what says where the files are stored."""
    if isinstance(settings, dict):
        kept = {key: plain(value) for key, value in settings.items() if key not in ('backend_args', 'data_root')}
        if kept.get('type') in OURS:
            kept = dict(type=OURS[kept['type']])
        return kept
    return [plain(value) for value in settings] if isinstance(settings, list | tuple) else settings


def classes(package: str, dataset: dict) -> int:
    return len(getattr(import_module(f'{package}.datasets'), dataset['type']).METAINFO['classes'])


@pytest.mark.parametrize('name', SEGMENTATION)
def test_data_of_a_segmentor_are_mmsegs(name):
    stock_name, number, crop = SEGMENTATION[name]
    recipe = Config.fromfile(CONFIGS / f'upernet_swin_t_{name}.py')
    stock = get_config(f'mmseg::_base_/datasets/{stock_name}.py')
    for part in LOADERS:
        assert plain(recipe[part].dataset.to_dict()) == plain(stock[part].dataset.to_dict())
    for head in (recipe.model.decode_head, recipe.model.auxiliary_head, recipe.load_labels):
        assert head.num_classes == number == classes('mmseg', recipe.train_dataloader.dataset)
    assert tuple(recipe.model.data_preprocessor.size) == crop
    assert str(recipe.tta_pipeline).count("'num_classes': ") == str(recipe.tta_pipeline).count(f': {number}') == 1


def test_data_of_lvis_are_mmdets_but_for_the_augmentation():
    recipe = Config.fromfile(CONFIGS / 'mask_rcnn_swin_t_lvis.py')
    stock = get_config('mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py')
    for cfg in (recipe, stock):
        cfg.train_dataloader.dataset.dataset.pop('pipeline')
    for part in LOADERS:
        assert plain(recipe[part].dataset.to_dict()) == plain(stock[part].dataset.to_dict())
    for part in ('val_evaluator', 'test_evaluator'):
        assert plain(recipe[part].to_dict()) == plain(stock[part].to_dict())
    for head in ('bbox_head', 'mask_head'):
        number = recipe.model.roi_head[head].num_classes
        assert number == stock.model.roi_head[head].num_classes == classes('mmdet', recipe.val_dataloader.dataset)
    for key in ('score_thr', 'max_per_img'):
        assert recipe.model.test_cfg.rcnn[key] == stock.model.test_cfg.rcnn[key]
