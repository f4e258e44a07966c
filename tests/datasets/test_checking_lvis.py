"""``check_data`` on LVIS: the checks of COCO's format, with the file names and the numbering that mmdet gives it."""

import json

import pytest
from mmengine.config import Config
from samples.other_layouts import write_lvis

from swin_mm.datasets.checks import check_data, fix_data
from swin_mm.recipes import find_config, move_data_root

pytest.importorskip('mmdet')


@pytest.fixture
def cfg(tmp_path) -> Config:
    """The recipe on data whose names are others than mmdet's, as one of LVIS itself is."""
    cfg = Config.fromfile(find_config('mask_rcnn_swin_t_lvis'))
    move_data_root(cfg, f'{write_lvis(tmp_path / "data")}/')
    return cfg


def change(tmp_path, key, **values) -> None:
    file = tmp_path / 'data/annotations/lvis_v1_train.json'
    content = json.loads(file.read_text())
    content[key][0].update(values)
    file.write_text(json.dumps(content))


def test_lvis_passes_with_its_own_names(cfg):
    found = check_data(cfg)
    assert found.of('error') == []
    assert 'not-checked' not in [row.check for row in found.rows]


@pytest.mark.parametrize(
    ('key', 'values', 'check'),
    [
        ('annotations', dict(image_id=999), 'unknown-image'),
        ('annotations', dict(bbox=[2, 6, 400, 44]), 'box-outside'),
        ('images', dict(coco_url='http://images.cocodataset.org/train2017/gone.jpg'), 'image-missing'),
        ('images', dict(coco_url=None), 'image-keys'),
        ('images', dict(width=5), 'image-size'),
    ],
)
def test_faults_are_those_of_coco(cfg, tmp_path, key, values, check):
    change(tmp_path, key, **values)
    assert check in [row.check for row in [*check_data(cfg).of('error'), *check_data(cfg).of('warning')]]


def test_another_number_of_classes_is_an_error(cfg):
    cfg.model.roi_head.bbox_head.num_classes = 80
    assert [row.check for row in check_data(cfg, ['train']).of('error')] == ['num-classes']
    cfg.train_dataloader.dataset.dataset.metainfo = dict(classes=('cat', 'dog'))
    errors = check_data(cfg, ['train']).of('error')
    assert 'metainfo has 2 classes, and the file 1203 categories' in errors[0].sentence


def test_the_fix_leaves_lvis_alone(cfg, tmp_path):
    change(tmp_path, 'annotations', image_id=999)
    assert fix_data(cfg, tmp_path / 'out').rows == []
