"""Broken pictures: left out of a training, refused for a metric, counted, and too many of them end the run."""

import io
import json
import logging
import os
import secrets

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, ConcatDataset
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from mmengine.runner import Runner
from PIL import Image
from samples.tiny_training import CONFIG, write_data

from swin_mm.datasets.load_image import LoadImage
from swin_mm.engine.missing_images import image_paths
from swin_mm.errors import RunError

SIDE = 16
RUNNING = []  # to free an iterator whose worker has failed takes PyTorch 5 s a worker


def write_pictures(folder, count: int):
    """``folder`` with a COCO set of ``count`` pictures, each of one colour: its own number in blue."""
    (folder / 'images').mkdir(parents=True)
    images = [dict(id=i, file_name=f'{i}.png', height=SIDE, width=SIDE) for i in range(count)]
    for i in range(count):
        Image.fromarray(np.full((SIDE, SIDE, 3), i, np.uint8)).save(folder / f'images/{i}.png')
    box = dict(bbox=[2, 2, 9, 9], area=81, iscrowd=0, category_id=1, segmentation=[[2, 2, 11, 2, 11, 11, 2, 11]])
    annotations = [dict(box, id=i + 1, image_id=i) for i in range(count)]
    categories = [dict(id=1, name='square')]
    (folder / 'all.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return folder


def dataset_of(folder, **settings):
    init_default_scope('mmdet')
    first = dict(type='swin_mm.LoadImage', **settings)
    return DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(folder),
            ann_file='all.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=('square',)),
            pipeline=[first, dict(type='PackDetInputs', meta_keys=('img_path',))],
        )
    )


@pytest.fixture(autouse=True)
def logged():
    """Gives what this test has logged about pictures that are left out."""
    name = secrets.token_hex(4)
    logger, stream = MMLogger.get_instance(name), io.StringIO()
    logger.handlers[:] = [logging.StreamHandler(stream)]
    yield lambda: [line for line in stream.getvalue().splitlines() if 'is left out' in line]
    MMLogger._instance_dict.pop(name)


def truncate(path):
    path.write_bytes(path.read_bytes()[:40])


FAULTS = {
    'empty': lambda path: path.write_bytes(b''),
    'truncated': truncate,
    'a page': lambda path: path.write_text('<html>404</html>'),
    'a folder': lambda path: (path.unlink(), path.mkdir()),
    'gone': lambda path: path.unlink(),
    'a dead link': lambda path: (path.unlink(), path.symlink_to('nowhere')),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_another_picture_takes_the_place_of_a_broken_one(tmp_path, fault, logged):
    dataset = dataset_of(write_pictures(tmp_path / 'data', 5))
    FAULTS[fault](tmp_path / 'data/images/3.png')
    for _ in range(3):
        sample = dataset[3]
        number = int(os.path.basename(sample['data_samples'].img_path).partition('.')[0])
        assert number != 3
        assert (sample['inputs'] == number).all()
    (line,) = logged()  # not three
    assert 'images/3.png is left out, it cannot be read: ' in line
    assert '(1 such files in this process)' in line


def test_the_same_seed_takes_the_same_pictures(tmp_path):
    dataset = dataset_of(write_pictures(tmp_path / 'data', 20), max_broken=0.9)
    for i in range(8):
        truncate(tmp_path / f'data/images/{i}.png')

    def drawn():
        np.random.seed(3)
        return [dataset[i]['data_samples'].img_path for i in range(20)]

    first = drawn()
    assert first == drawn()
    assert len(set(first)) > 10


def test_what_can_be_read_is_read_as_mmcv_does(tmp_path):
    random = np.random.default_rng(0)
    for name, size in (('a.png', (9, 7, 3)), ('b.jpg', (8, 8)), ('c.webp', (5, 6, 4))):
        path = str(tmp_path / name)
        Image.fromarray(random.integers(256, size=size, dtype=np.uint8)).save(path)
        mine = Compose([dict(type='swin_mm.LoadImage')])(dict(img_path=path))
        stock = Compose([dict(type='mmengine.LoadImageFromFile')])(dict(img_path=path))
        assert mine.keys() == stock.keys()
        assert np.array_equal(mine['img'], stock['img'])
        assert (mine['img'] == cv2.imread(path)).all()


def test_too_many_broken_pictures_end_the_run(tmp_path):
    dataset = dataset_of(write_pictures(tmp_path / 'data', 40), max_broken=0.2, min_broken=4)
    for i in (0, 10, 20, 30):
        truncate(tmp_path / f'data/images/{i}.png')
    for _ in range(3):  # a tenth of the set: all four are known, and they are not too many
        for i in range(40):
            dataset[i]
    for i in range(0, 40, 3):
        truncate(tmp_path / f'data/images/{i}.png')
    with pytest.raises(RunError, match=r'/0\.png, .*in all\).*more than max_broken=0\.2 of LoadImage.*disk'):
        list(map(dataset.__getitem__, 9 * [*range(40)]))


def test_one_broken_picture_of_a_few_ends_no_run(tmp_path):
    dataset = dataset_of(write_pictures(tmp_path / 'data', 2))
    truncate(tmp_path / 'data/images/0.png')
    step = dataset.pipeline.transforms[0]
    for _ in range(50):
        assert '1.png' in dataset[0]['data_samples'].img_path
    assert step.failed > 50 > 1 == len(step.broken)


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_count_each_for_itself_and_their_error_arrives(tmp_path, workers):
    dataset = dataset_of(write_pictures(tmp_path / 'data', 40))
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=list)
    truncate(tmp_path / 'data/images/5.png')
    assert sum(len(batch) for batch in loader) == 40
    for path in tmp_path.glob('data/images/*.png'):
        truncate(path)
    RUNNING.append(iter(loader))
    with pytest.raises(RunError, match=r'10 pictures cannot be read: .* reads of one process'):
        list(RUNNING[-1])


def test_arguments_are_checked():
    for name, value in (('max_broken', 1.0), ('max_broken', -0.1), ('min_broken', 0)):
        with pytest.raises(ValueError, match=f'{name} must be .*got {name}={value}'):
            LoadImage(**{name: value})
    assert 'max_broken=0.5, min_broken=3)' in repr(
        TRANSFORMS.build(dict(type='swin_mm.LoadImage', max_broken=0.5, min_broken=3))
    )


def tiny_config(folder, workers: int = 0) -> Config:
    """The very small detector on four pictures, with the recipe's own first step."""
    (folder / 'tiny.py').write_text(CONFIG.replace('not/here/', f'{write_data(folder / "data")}/'))
    cfg = Config.fromfile(folder / 'tiny.py')
    cfg.work_dir = str(folder / 'run')
    recipe = Config.fromfile('configs/mask_rcnn_swin_t.py')
    cfg.train_dataloader.dataset.pipeline[0] = recipe.train_dataloader.dataset.pipeline[0]
    cfg.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
    return cfg


def test_a_training_survives_a_broken_picture(tmp_path):
    cfg = tiny_config(tmp_path, workers=1)
    truncate(tmp_path / 'data/images/1.jpg')
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.max_epochs = 2
    Runner.from_cfg(cfg).train()
    assert (tmp_path / 'run/epoch_2.pth').is_file()
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert log.count('images/1.jpg is left out') == 1  # the worker lives on over the epochs


def test_a_metric_without_its_pictures_is_refused_before_the_first_step(tmp_path):
    cfg = tiny_config(tmp_path)
    for i, fault in enumerate(['empty', 'gone', 'a dead link']):
        FAULTS[fault](tmp_path / f'data/images/{i}.jpg')
    with pytest.raises(
        RunError, match=r'3 of 4 pictures for ValLoop cannot be read: .*/0\.jpg \(it is empty.*Put them'
    ):
        Runner.from_cfg(cfg).train()
    assert not list((tmp_path / 'run').rglob('*.pth'))


def test_a_metric_ends_with_the_name_of_what_it_cannot_decode(tmp_path):
    cfg = tiny_config(tmp_path)
    truncate(tmp_path / 'data/images/2.jpg')
    with pytest.raises(AssertionError, match=r'images/2\.jpg'):
        Runner.from_cfg(cfg).test()


def test_pictures_are_found_in_wrappers_and_elsewhere_left_alone(tmp_path):
    dataset = dataset_of(write_pictures(tmp_path / 'data', 3))
    files = [str(tmp_path / f'data/images/{i}.png') for i in range(3)]
    assert list(image_paths(dataset)) == files
    assert list(image_paths(ConcatDataset([dataset, dataset]))) == 2 * files
    assert list(image_paths(DATASETS.build(dict(type='RepeatDataset', dataset=dataset, times=2)))) == files
    assert list(image_paths([1, 2])) == []
    dataset.pipeline.transforms[0].backend_args = dict(backend='petrel')
    assert list(image_paths(dataset)) == []
