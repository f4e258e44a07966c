"""Recipes on Cityscapes, Pascal VOC, LVIS and panoptic COCO: their data are held against the stock files of mmseg and
mmdet, and each trains, narrow, on made-up files in the layout of its data.
"""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from samples.narrow_recipes import smallest_detector, smallest_segmentor
from samples.other_layouts import write_cityscapes, write_lvis, write_panoptic, write_voc
from samples.stock_detectors import BACKBONE, MAPS
from samples.stock_detectors import narrow as narrow_everywhere

from swin_mm.commands import test, train
from swin_mm.recipes import settings_within, type_name

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


def shrink(cfg: Config) -> None:
    """Lets ``cfg`` train two steps of two small pictures in this process; steps of the pipelines stay as they are."""
    sizes = dict(RandomResize='scale', Resize='scale', RandomCrop='crop_size', BatchFixedSizePad='size')
    for key in (*LOADERS, 'model'):
        for _, part in settings_within(cfg[key], key):
            if type_name(part) == 'RandomChoiceResize':
                part.scales = [(128, 96), (96, 64)]
            elif type_name(part) in sizes:
                part[sizes[type_name(part)]] = (64, 64)
    for key in LOADERS:
        cfg[key].update(num_workers=0, persistent_workers=False)
    by_epoch = cfg.train_cfg.type == 'EpochBasedTrainLoop'
    cfg.train_cfg.update(dict(max_epochs=1) if by_epoch else dict(max_iters=2, val_interval=2))
    cfg.default_hooks.checkpoint.interval = 1 if by_epoch else 2
    cfg.randomness = dict(seed=0)


def train_and_test(cfg: Config, folder: Path, data: Path, monkeypatch) -> dict[str, float]:
    """Two steps and a test by our commands; gives the metrics."""
    shrink(cfg)
    (folder / 'small.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.to_dict().items()))
    monkeypatch.chdir(folder)
    where = ['--cfg-options', f'data_root={data}']
    train.main(['small.py', *where])
    (checkpoint,) = folder.glob('work_dirs/small/[ei]*_[12].pth')  # epoch_1 or iter_2
    loaded = torch.load(checkpoint, weights_only=True)
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {2}
    return test.main(['small.py', str(checkpoint), *where])


@pytest.mark.parametrize(
    ('name', 'write'),
    [('cityscapes', write_cityscapes), pytest.param('voc12', write_voc, marks=pytest.mark.slow)],
)
def test_a_segmentor_trains_two_steps_and_is_tested(name, write, tmp_path, monkeypatch):
    cfg = Config.fromfile(CONFIGS / f'upernet_swin_t_{name}.py')
    cfg.model = ConfigDict(smallest_segmentor(cfg.model, classes=SEGMENTATION[name][1]))
    scores = train_and_test(cfg, tmp_path, write(tmp_path / 'data'), monkeypatch)
    assert 0 <= scores['mIoU'] <= 100


@pytest.mark.slow
def test_lvis_trains_two_steps_and_is_tested(tmp_path, monkeypatch):
    pytest.importorskip('lvis', reason='the package lvis is not installed: pip install lvis')
    cfg = Config.fromfile(CONFIGS / 'mask_rcnn_swin_t_lvis.py')
    cfg.model = ConfigDict(smallest_detector(cfg.model, classes=1203))
    cfg.model.test_cfg.rpn.max_per_img = 20  # each is a box of all classes to the random weights
    scores = train_and_test(cfg, tmp_path, write_lvis(tmp_path / 'data'), monkeypatch)
    assert {'lvis/bbox_APr', 'lvis/segm_APf'} <= scores.keys()


@pytest.mark.slow
def test_mask2former_trains_two_steps_on_panoptic_maps_and_is_tested(tmp_path, monkeypatch):
    pytest.importorskip(
        'panopticapi', reason='not installed: pip install git+https://github.com/cocodataset/panopticapi.git'
    )
    cfg = Config.fromfile(CONFIGS / 'mask2former_swin_t_panoptic.py')
    cfg.model.backbone = dict(BACKBONE)
    narrow_everywhere(cfg.model, MAPS)
    scores = train_and_test(cfg, tmp_path, write_panoptic(tmp_path / 'data'), monkeypatch)
    assert 0 <= scores['coco_panoptic/PQ'] <= 100
    assert 'coco/segm_mAP' in scores
