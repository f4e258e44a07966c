"""MMSegmentation reads the embedded data set, and the small recipe trains on it."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from swin_mm.datasets.shapes import write as shapes

CONFIG = Path(__file__).parents[2] / 'configs/upernet_swin_pico_shapes.py'
LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'mmseg.LoadAnnotations'}]


@pytest.fixture
def build(monkeypatch):
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    import swin_mm.datasets.shapes.segmentation as seg_shapes

    monkeypatch.setattr(seg_shapes, 'write_shapes', functools.partial(shapes.write_shapes, train=3, val=2))

    def build(data_root, split='train', **options):
        prefix = dict(img_path=f'{split}/', seg_map_path=f'semantic/{split}/')
        config = dict(type='swin_mm.ShapesSegDataset', data_root=str(data_root), data_prefix=prefix, pipeline=[])
        return DATASETS.build(config | options)

    return build


def test_dataset_writes_the_set_when_it_loads_and_not_before(build, tmp_path):
    lazy = build(tmp_path / 'shapes', lazy_init=True)
    assert not list(tmp_path.iterdir())
    lazy.full_init()
    assert len(lazy) == 3
    assert len(build(tmp_path / 'shapes', 'val')) == 2


def test_classes_are_the_background_and_the_categories_by_their_ids(build, root):
    metainfo = build(root, lazy_init=True).metainfo
    coco = json.loads((root / 'annotations/instances_train.json').read_text())
    names = {category['id']: category['name'] for category in coco['categories']}
    assert dict(enumerate(metainfo['classes'])) == {0: 'background'} | names
    assert len(set(metainfo['palette'])) == len(metainfo['classes'])
    assert not metainfo['reduce_zero_label']


@pytest.mark.parametrize('split', ['train', 'val'])
def test_pictures_come_with_their_own_maps(build, root, counts, split):
    dataset = build(root, split, pipeline=LOAD)
    assert len(dataset) == counts[split]
    seen = set()
    for sample in dataset:
        stem = Path(sample['img_path']).stem
        expected = np.asarray(Image.open(root / 'semantic' / split / f'{stem}.png'))
        np.testing.assert_array_equal(sample['gt_seg_map'], expected)
        assert sample['img'].shape == (*expected.shape, 3)
        seen |= set(np.unique(expected))
    assert seen == set(range(6))


def test_dataset_refuses_a_folder_of_other_things(build, tmp_path):
    (tmp_path / 'photo.jpg').touch()
    with pytest.raises(FileExistsError, match='remove that folder'):
        build(tmp_path)


def test_the_recipe_makes_batches_of_one_size_and_every_parameter_learns_from_them(root):
    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).train()
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'data_root': str(root)})
    small = [i for i in range(len(dataset)) if min(Image.open(dataset.get_data_info(i)['img_path']).size) < 128]
    samples = [dataset[i] for i in small[:2]]
    assert {tuple(one['inputs'].shape) for one in samples} != {(3, 128, 128)}  # so padding is met
    batch = model.data_preprocessor(pseudo_collate(samples), training=True)
    assert batch['inputs'].shape == (2, 3, 128, 128)
    labels = torch.stack([one.gt_sem_seg.data[0] for one in batch['data_samples']])
    assert labels.shape == (2, 128, 128)
    assert set(labels.unique().tolist()) - set(range(6)) == {255}

    losses = model.loss(**batch)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []
