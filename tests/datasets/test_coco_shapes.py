"""MMDetection reads the embedded data set."""

import functools
from collections import OrderedDict

import numpy as np
import pytest
from PIL import Image

from swin_mm.datasets.shapes import write as shapes


@pytest.fixture
def build(monkeypatch):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    from mmengine.registry import DATASETS, DefaultScope

    import swin_mm.datasets.shapes.detection as coco_shapes

    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())  # whatever an earlier test left
    monkeypatch.setattr(coco_shapes, 'write_shapes', functools.partial(shapes.write_shapes, train=3, val=2))

    def build(data_root, **options):
        config = dict(type='swin_mm.ShapesDataset', data_root=str(data_root), data_prefix={'img': 'train/'})
        return DATASETS.build(config | {'ann_file': 'annotations/instances_train.json', 'pipeline': []} | options)

    return build


def test_dataset_writes_the_set_when_it_loads_and_not_before(build, tmp_path):
    lazy = build(tmp_path / 'shapes', lazy_init=True)
    assert lazy.metainfo['classes'] == shapes.CLASSES
    assert not list(tmp_path.iterdir())
    lazy.full_init()
    assert len(lazy) == 3
    assert [i['ignore_flag'] for i in lazy.get_data_info(0)['instances']].count(1) == 1


def test_dataset_reads_the_set_that_is_there_with_mmdets_own_loaders(build, root, counts):
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}]
    pipeline = [{**step, 'type': f'mmdet.{step["type"]}'} for step in pipeline]
    dataset = build(root, pipeline=pipeline, data_prefix={'img': 'train/', 'seg': 'semantic/train/'})
    assert len(dataset) == counts['train']
    sample = dataset[4]
    semantic = np.asarray(Image.open(sample['seg_map_path']))
    masks = sample['gt_masks'].to_ndarray()
    assert sample['img'].shape[:2] == masks.shape[1:] == semantic.shape
    np.testing.assert_array_equal(np.einsum('n,nhw->hw', sample['gt_bboxes_labels'] + 1, masks), semantic)


def test_dataset_refuses_a_folder_of_other_things(build, tmp_path):
    (tmp_path / 'photo.jpg').touch()
    with pytest.raises(FileExistsError, match='remove that folder'):
        build(tmp_path)
