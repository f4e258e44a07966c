"""``check_data``: every way in which a data set of COCO's format is known to break is caught by name."""

import json
from random import Random

import mmcv
import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as coco_mask
from samples.breakable_data import (
    ERRORS,
    HEIGHT,
    OTHERS,
    WIDTH,
    OwnData,
    all_objects,
    change_classes,
    rle,
    scrambled,
    write_json,
)

from swin_mm.datasets.checks import check_data
from swin_mm.datasets.checks.mask_bounds import mask_bounds
from swin_mm.datasets.shapes import write_shapes
from swin_mm.recipes import find_config, move_data_root


@pytest.fixture
def own(tmp_path) -> OwnData:
    return OwnData(tmp_path)


@pytest.mark.parametrize('case', ERRORS)
def test_what_is_broken_is_named(own, case):
    check, spoil = ERRORS[case]
    spoil(own)
    errors = check_data(own.write()).of('error')
    assert check in [error.check for error in errors]
    assert {error.data.partition(':')[0] for error in errors} <= {'train', 'val'}


@pytest.mark.parametrize('case', OTHERS)
def test_what_may_be_meant_is_said_and_stops_nobody(own, case):
    severity, check, spoil = OTHERS[case]
    spoil(own)
    found = check_data(own.write())
    assert found.of('error') == []
    assert check in [finding.check for finding in found.of(severity)]


def test_whole_data_are_let_through(own):
    found = check_data(own.write())
    assert found.of('error') == found.of('warning') == []
    assert {finding.check for finding in found.rows} == {'category-gaps'}


def test_run_lengths_are_masks_too(own):
    own.first.update(segmentation=rle(HEIGHT, WIDTH))
    assert check_data(own.write()).of('error') == []


def test_both_lists_of_names_are_shown(own):
    change_classes(own, ('Cat', 'dog'))
    error = check_data(own.write()).of('error')[0]
    assert "metainfo has 'Cat', 'dog'; the file has 'cat', 'dog'" in error.sentence
    assert error.examples == ["'Cat'"]


def test_a_finding_counts_all_and_shows_three(own):
    for item in own.train['annotations'][:5]:
        item['bbox'] = [4, 6, 0, 16]
    (error,) = [row for row in check_data(own.write()).of('error') if row.check == 'box-empty']
    assert error.count == 5
    assert error.examples[0] == 'annotation 1 of image 100: (4, 6, 0, 16)'
    assert len(error.examples) == 3


def test_what_mmdet_steps_over_is_a_warning_while_it_is_rare(own):
    """COCO itself has two empty boxes among 860,000."""
    own.train['annotations'] = [dict(item, id=i) for i, item in enumerate(own.train['annotations'] * 10)]
    own.first['bbox'] = [4, 6, 0, 16]
    found = check_data(own.write())
    assert [(row.severity, row.count) for row in found.rows if row.check == 'box-empty'] == [('warning', 1)]


def test_a_training_that_draws_other_images_may_miss_one(own):
    own.dataset.pipeline[0].type = 'swin_mm.LoadImage'
    own.image().unlink()
    found = check_data(own.write())
    assert found.of('error') == []
    assert [row.check for row in found.of('warning')] == ['image-missing']


STORED = [dict(color_type='unchanged'), dict(color_type='color_ignore_orientation'), dict(imdecode_backend='turbojpeg')]


@pytest.mark.parametrize('step', STORED)
def test_images_may_be_turned_where_no_step_turns_them(own, step):
    """mmcv leaves EXIF alone with these: then annotations as stored are right, and those as seen are not."""
    own.dataset.pipeline[0].update(step)
    ERRORS['an image turned by EXIF'][1](own)
    assert check_data(own.write()).of('error') == []
    if 'color_type' in step:
        assert mmcv.imread(own.image(), step['color_type']).shape == (HEIGHT, WIDTH, 3)
    own.cfg.train_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile')
    assert [row.check for row in check_data(own.cfg).of('error')] == ['image-turned']
    assert mmcv.imread(own.image()).shape == (WIDTH, HEIGHT, 3)


def test_masks_do_not_matter_to_a_model_of_boxes(own):
    own.dataset.pipeline[1].with_mask = False
    all_objects(own, segmentation=[])
    assert check_data(own.write()).of('error') == []


def test_order_of_classes_is_mmdets(own):
    """The rule behind `class-order`, asked of mmdet itself: labels follow the file."""
    from mmdet.datasets import CocoDataset

    own.write()
    dataset = CocoDataset(str(own.root / 'train.json'), metainfo=dict(classes=('dog', 'cat')), data_prefix=dict(img=''))
    assert dataset.cat2label == {1: 0, 3: 1}  # the cat is label 0, whose name is 'dog'


def test_json_is_the_table_as_data(own):
    own.first.update(bbox=[50, 6, 20, 16], segmentation=[])
    report = json.loads(json.dumps(check_data(own.write()).as_json()))
    assert (report['errors'], report['warnings'], report['notes']) == (2, 0, 2)
    assert {row['check']: row['count'] for row in report['findings'] if row['severity'] == 'error'} == {
        'box-outside': 1,
        'mask-missing': 1,
    }


@pytest.mark.parametrize('shape', [(1, 1), (7, 5), (40, 60), (300, 200)])
@pytest.mark.parametrize('seed', range(4))
def test_bounds_of_run_lengths_are_pycocotools(shape, seed):
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=np.uint8, order='F')
    mask[random.integers(shape[0]) :, random.integers(shape[1]) :] = random.random(1) < 2
    mask *= random.random(shape) < 0.7
    mask[-1, -1] = 1
    coded = coco_mask.encode(mask)
    rows, columns = np.nonzero(mask)
    wanted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    text = dict(size=coded['size'], counts=coded['counts'].decode())
    assert mask_bounds(text) == (wanted, shape)
    flat = mask.flatten(order='F')
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    assert mask_bounds(dict(size=list(shape), counts=[0, *runs] if flat[0] else runs)) == (wanted, shape)


def test_the_embedded_shapes_pass(tmp_path):
    cfg = Config.fromfile(find_config('mask_rcnn_swin_pico_shapes'))
    move_data_root(cfg, str(tmp_path / 'shapes'))
    assert [row.sentence for row in check_data(cfg).rows] == ['it is drawn on first use'] * 2
    write_shapes(tmp_path / 'shapes', train=40, val=8)
    found = check_data(cfg)
    assert found.of('error') == found.of('warning') == []


def test_photographs_of_coco_pass(own, shared):
    mini = shared / 'data/coco_mini'
    for loop in ('train', 'val', 'test'):
        own.cfg[f'{loop}_dataloader'].dataset.update(
            data_root=f'{mini}/', ann_file='annotations/instances_mini.json', data_prefix=dict(img='images/')
        )
    change_classes(own, ('person',))
    own.cfg.model.roi_head.update(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1))
    assert check_data(own.write()).of('error') == []


@pytest.mark.parametrize('seed', range(4))
def test_whatever_stands_in_the_file_the_check_ends_with_findings(own, seed):
    random = Random(seed)
    own.first['segmentation'] = rle(HEIGHT, WIDTH)
    whole = json.dumps(own.train)
    for _ in range(15):
        write_json(own, json.dumps(scrambled(json.loads(whole), random)))
        assert isinstance(check_data(own.write(), ['train']).summary(), str)


def test_configs_in_pythons_own_syntax_are_checked(own):
    """Their types are classes, for which mmengine keeps stand-ins until somebody asks."""
    own.first['image_id'] = 999
    own.write()
    files = f"data_root='{own.root}/', ann_file='train.json', data_prefix=dict(img='train/')"
    (own.root / 'base.py').write_text(
        'from mmdet.datasets import CocoDataset\n'
        f"train_dataloader = dict(dataset=dict(type=CocoDataset, metainfo=dict(classes=('cat', 'dog')), {files}))\n"
    )
    (own.root / 'child.py').write_text(
        "from mmengine.config import read_base\nwith read_base():\n    from .base import *\ndefault_scope = 'mmdet'\n"
    )
    found = check_data(Config.fromfile(own.root / 'child.py'))
    assert [row.check for row in found.of('error')] == ['unknown-image']
