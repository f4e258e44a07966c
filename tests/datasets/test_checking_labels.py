"""``check_data`` on segmentation configs: label files that `LoadLabels` would refuse are named before the training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from samples.breakable_maps import HEIGHT, IMAGES, WIDTH, Maps

from swin_mm.datasets.checks import check_data, labels
from swin_mm.datasets.shapes import write_shapes
from swin_mm.recipes import find_config, move_data_root


@pytest.fixture
def maps(tmp_path) -> Maps:
    return Maps(tmp_path)


def constant(value: int, shape=(HEIGHT, WIDTH), dtype=np.uint8) -> np.ndarray:
    return np.full(shape, value, dtype)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


CASES = {
    'a label file that is gone': ('label-missing', lambda maps: maps.label.unlink()),
    'no label files': ('label-missing', lambda maps: empty(maps.root / 'labels/train')),
    'labels of another suffix': (
        'label-missing',
        lambda maps: maps.cfg.train_dataloader.dataset.update(seg_map_suffix='_l.png'),
    ),
    'labels of another size': ('label-size', lambda maps: maps.save(constant(1, (HEIGHT, 20)))),
    'labels turned': ('label-size', lambda maps: maps.save(constant(1, (WIDTH, HEIGHT)))),
    'labels of 16 bits': ('label-kind', lambda maps: maps.save(constant(1, dtype=np.uint16))),
    'labels as colours': ('label-kind', lambda maps: maps.save(constant(1, (HEIGHT, WIDTH, 3)))),
    'labels with transparency': ('label-kind', lambda maps: maps.save(constant(1, (HEIGHT, WIDTH, 4)))),
    'a class too many': ('label-values', lambda maps: maps.save(constant(3))),
    'a mask of 0 and 128': ('label-values', lambda maps: maps.save(constant(128))),
    'an empty label file': ('label-broken', lambda maps: maps.label.write_bytes(b'')),
    'half a label file': ('label-broken', lambda maps: maps.label.write_bytes(maps.label.read_bytes()[:-70])),
    'no images': ('empty', lambda maps: empty(maps.root / 'images/train')),
    'no folder of images': ('empty', lambda maps: shutil.rmtree(maps.root / 'images/train')),
    'images of another suffix': ('empty', lambda maps: maps.cfg.train_dataloader.dataset.update(img_suffix='.png')),
    'an image that is no image': ('image-broken', lambda maps: (maps.root / 'images/train/1.jpg').write_text('no')),
    'a listed image that is gone': ('image-missing', lambda maps: list_images(maps, '1', '77')),
    'a head of 150 classes': ('num-classes', lambda maps: maps.cfg.model.decode_head.update(num_classes=150)),
    'an auxiliary head of 150': ('num-classes', lambda maps: maps.cfg.model.auxiliary_head.update(num_classes=150)),
    'no classes': ('classes-missing', lambda maps: maps.cfg.train_dataloader.dataset.pop('metainfo')),
}


def list_images(maps: Maps, *names: str) -> None:
    (maps.root / 'list.txt').write_text('\n'.join(names))
    maps.cfg.train_dataloader.dataset.update(ann_file='list.txt')


@pytest.mark.parametrize('case', CASES)
def test_what_is_broken_is_named(maps, case):
    check, spoil = CASES[case]
    spoil(maps)
    errors = check_data(maps.cfg).of('error')
    assert check in [error.check for error in errors]
    assert {error.data.partition(':')[0] for error in errors} <= {'train', 'val'}


def test_whole_maps_are_let_through(maps):
    assert check_data(maps.cfg).rows == []


def test_the_words_are_those_of_the_loading_step(maps):
    maps.save(constant(7))
    (error,) = check_data(maps.cfg).of('error')
    assert error.examples == [
        f'labels must be in [0, num_classes) or 255 (ignored), got num_classes=3 and 7 in {maps.label}'
    ]


def test_labels_that_count_from_one_are_right_where_the_data_set_says_so(maps):
    for i in range(IMAGES):
        maps.save(constant(i), f'{i}.png')
    assert [error.check for error in check_data(maps.cfg).of('error')] == ['label-values']
    maps.cfg.train_dataloader.dataset.reduce_zero_label = True
    assert check_data(maps.cfg).of('error') == []


def test_values_of_some_files_are_looked_at_and_those_of_all_on_demand(maps, monkeypatch):
    monkeypatch.setattr(labels, 'DECODED', 2)
    maps.save(constant(7))  # the second of four: between the first and the third
    assert check_data(maps.cfg).of('error') == []
    assert [error.check for error in check_data(maps.cfg, decode=True).of('error')] == ['label-values']


def test_images_without_labels_are_right_where_no_step_loads_labels(maps):
    maps.cfg.val_dataloader.dataset.pipeline.pop()
    shutil.rmtree(maps.root / 'labels/val')
    assert check_data(maps.cfg, ['val']).rows == []


def test_a_copy_of_a_training_image_is_said(maps):
    shutil.copy(maps.root / 'images/train/0.jpg', maps.root / 'images/val/3.jpg')
    assert [row.check for row in check_data(maps.cfg).of('warning')] == ['overlap-content']


def test_the_embedded_shapes_pass(tmp_path):
    cfg = Config.fromfile(find_config('upernet_swin_pico_shapes'))
    move_data_root(cfg, str(tmp_path / 'shapes'))
    assert [row.sentence for row in check_data(cfg).rows] == ['it is drawn on first use'] * 2
    write_shapes(tmp_path / 'shapes', train=20, val=8)
    assert check_data(cfg, decode=True).rows == []
