"""``fix_data``: what has one right answer is mended in a copy, the rest is left, no file of the user changes."""

import hashlib
import io
import json
import math
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from samples.breakable_data import (
    ERRORS,
    HEIGHT,
    OTHERS,
    WIDTH,
    OwnData,
    all_objects,
    as_corners,
    copy_image,
    rle,
    scrambled,
)
from samples.breakable_maps import Maps
from samples.odd_images import turned

from swin_mm.datasets.checks import check_data, fix_data
from swin_mm.datasets.checks.outlines import TURNS, clip_polygon, turn_box, turn_mask, turn_points
from swin_mm.errors import PreflightError

# Findings that have no single right answer, and one way to break boxes that has none.
LEFT = {'class-names', 'class-order', 'classes-string', 'duplicate-class', 'duplicate-category', 'category-keys'}
LEFT |= {'num-classes', 'duplicate-image-id', 'annotation-file', 'empty', 'mask-outside'}
CASES = {case: check for case, (check, _) in ERRORS.items() if check not in LEFT and case != 'corners for sizes'}


@pytest.fixture
def own(tmp_path) -> OwnData:
    (tmp_path / 'own').mkdir()
    return OwnData(tmp_path / 'own')


def digest(folder: Path) -> dict[str, str]:
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob('*') if file.is_file()}


def fixed(own: OwnData, folder: Path) -> dict[str, int]:
    """Mends the data, and gives how often what was done."""
    cfg = own.write()
    before = digest(own.root)
    done = fix_data(cfg, folder)
    assert digest(own.root) == before
    return {row.check: row.count for row in done.rows}


def mended(folder: Path) -> dict:
    return json.loads((folder / 'train.json').read_text())


@pytest.mark.parametrize('case', CASES)
def test_what_has_one_right_answer_is_clean_after_the_fix(own, case, tmp_path):
    ERRORS[case][1](own)
    before = {row.check for row in check_data(own.write()).of('error')}
    assert sum(fixed(own, tmp_path / 'out').values()) >= 1
    after = {row.check for row in check_data(own.cfg).of('error')}
    assert after <= before - {CASES[case]}
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert len(DATASETS.build(dict(own.dataset, pipeline=[]))) >= 11  # mmdet reads the copy


@pytest.mark.parametrize('case', sorted(ERRORS.keys() - CASES.keys()))
def test_what_has_none_is_left(own, case, tmp_path):
    check, spoil = ERRORS[case]
    spoil(own)
    fixed(own, tmp_path / 'out')
    assert check in [row.check for row in check_data(own.cfg).of('error')]


def test_whole_data_need_no_copy(own, tmp_path):
    assert fixed(own, tmp_path / 'out') == {}
    assert own.dataset.ann_file == 'train.json'
    assert not (tmp_path / 'out').exists()


def test_a_folder_with_files_is_refused(own):
    with pytest.raises(PreflightError, match='--fix must name a new or an empty folder'):
        fix_data(own.write(), own.root)


def test_a_box_is_clipped_and_its_polygon_with_it(own, tmp_path):
    own.first.update(bbox=[50, 6, 20, 16], segmentation=[[50, 6, 70, 6, 70, 22, 50, 22]])
    assert fixed(own, tmp_path / 'out') == {'box-outside': 1}
    first = mended(tmp_path / 'out')['annotations'][0]
    assert first['bbox'] == [50, 6, 14, 16]
    assert first['area'] == 14 * 16
    assert {tuple(point) for point in np.reshape(first['segmentation'][0], (-1, 2))} == {
        (50, 6), (64, 6), (64, 22), (50, 22)
    }  # fmt: skip
    assert check_data(own.cfg).of('error') == []


def test_a_missing_box_is_that_of_the_mask(own, tmp_path):
    box = own.first.pop('bbox')
    assert fixed(own, tmp_path / 'out') == {'box-missing': 1}
    assert mended(tmp_path / 'out')['annotations'][0]['bbox'] == box


def test_a_lost_image_takes_its_annotations_with_it(own, tmp_path):
    own.image().unlink()
    assert fixed(own, tmp_path / 'out') == {'image-missing': 1}
    content = mended(tmp_path / 'out')
    assert len(content['images']) == 11
    assert {item['image_id'] for item in content['annotations']} == {image['id'] for image in content['images']}


@pytest.mark.parametrize(
    'spoil',
    [
        as_corners,
        lambda own: shutil.rmtree(own.root / 'train'),
        lambda own: all_objects(own, segmentation=[]),
        lambda own: Image.new('RGB', (WIDTH * 2, HEIGHT * 2)).save(own.image()),
        lambda own: Image.new('RGB', (WIDTH // 2, HEIGHT)).save(own.image()),
    ],
    ids=['corners for sizes', 'another folder', 'no masks at all', 'an image enlarged', 'an image narrowed'],
)
def test_what_is_no_slip_is_left_to_a_person(own, spoil, tmp_path):
    """These have several answers, and the wrong one would train on wrong boxes in silence."""
    spoil(own)
    assert fixed(own, tmp_path / 'out') == {}


def test_training_gives_away_the_images_that_validation_has(own, tmp_path):
    copy_image(own)
    assert fixed(own, tmp_path / 'out') == {'overlap': 1}
    assert [image['id'] for image in mended(tmp_path / 'out')['images']] == list(range(101, 112))
    assert check_data(own.cfg).of('warning') == []


def test_one_set_for_training_and_validation_is_left(own, tmp_path):
    OTHERS['training on the validation images'][2](own)
    assert fixed(own, tmp_path / 'out') == {}


def test_the_metric_reads_the_copy_too(own, tmp_path):
    own.val['annotations'].append(dict(own.val['annotations'][0]))
    own.cfg.val_evaluator = dict(type='CocoMetric', ann_file=str(own.root / 'val.json'))
    assert fixed(own, tmp_path / 'out') == {'duplicate-id': 1}
    assert own.cfg.val_evaluator.ann_file == str(tmp_path / 'out/val.json')
    assert own.cfg.val_dataloader.dataset.ann_file == own.cfg.test_dataloader.dataset.ann_file
    ids = [item['id'] for item in json.loads((tmp_path / 'out/val.json').read_text())['annotations']]
    assert len(set(ids)) == len(ids) == 25


def test_all_at_once(own, tmp_path):
    """Every fault of one right answer in one file, each in an object or image of its own."""
    objects = own.train['annotations']
    objects[0]['bbox'] = [4, 6, float('nan'), 16]
    objects[3]['image_id'] = 999
    objects[6]['id'] = objects[5]['id']
    del objects[18]['area'], objects[18]['iscrowd']
    objects[12]['bbox'][2] = 0
    objects[14]['bbox'][0] = 50
    objects[14].pop('segmentation')
    own.image(4).unlink()
    del own.train['images'][8]['height']
    counts = fixed(own, tmp_path / 'out')
    assert counts == {
        'image-missing': 1, 'image-size': 1, 'box-missing': 1, 'unknown-image': 1, 'duplicate-id': 1, 'filled': 1,
        'box-empty': 1, 'mask-missing': 1,
    }  # fmt: skip
    assert check_data(own.cfg).of('error') == []


@pytest.mark.parametrize('seed', range(4))
def test_whatever_stands_in_the_file_the_fix_ends_and_is_done_at_once(own, seed, tmp_path):
    """A second fix finds nothing to do."""
    random = Random(seed)
    own.first['segmentation'] = rle(HEIGHT, WIDTH)
    whole, files = json.dumps(own.train), dict(own.dataset)
    for i in range(15):
        (own.root / 'train.json').write_text(json.dumps(scrambled(json.loads(whole), random)))
        own.dataset.ann_file = files['ann_file']
        fixed(own, tmp_path / f'{i}')
        assert fixed(own, tmp_path / f'{i} again') == {}


@pytest.mark.parametrize('orientation', TURNS)
def test_turned_boxes_and_masks_lie_where_pillow_shows_the_object(orientation):
    height, width, box = 12, 20, [3, 2, 8, 5]
    pixels = np.zeros((height, width), np.uint8)
    pixels[2:7, 3:11] = 255
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(turned(Image.fromarray(pixels), orientation))))
    rows, columns = np.nonzero(np.asarray(shown) > 128)
    wanted = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert turn_box(box, orientation, width, height) == wanted
    corners = turn_points([3, 2, 11, 2, 11, 7], orientation, width, height)
    assert min(corners[::2]) == wanted[0]
    assert max(corners[1::2]) == wanted[1] + wanted[3]
    coded = coco_mask.encode(np.asfortranarray(pixels // 255))
    runs = dict(size=coded['size'], counts=coded['counts'].decode())
    assert np.array_equal(coco_mask.decode(turn_mask(runs, orientation, width, height)), np.asarray(shown) > 128)


def test_a_turned_image_takes_its_objects_with_it(own, tmp_path):
    own.image().write_bytes(turned(Image.new('RGB', (WIDTH, HEIGHT)), 6))
    assert fixed(own, tmp_path / 'out') == {'image-turned': 1}
    content = mended(tmp_path / 'out')
    assert (content['images'][0]['width'], content['images'][0]['height']) == (HEIGHT, WIDTH)
    assert content['annotations'][0]['bbox'] == [HEIGHT - 22, 4, 16, 20]
    assert check_data(own.cfg).of('error') == []


@pytest.mark.parametrize('seed', range(6))
def test_a_clipped_polygon_is_its_part_within_the_image(seed):
    """Of a star around a point: the same pixels as pycocotools draws of the whole one on a larger canvas."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.random(9)) * 2 * math.pi
    points = (60 + random.integers(-40, 40, 2)) + np.stack([np.cos(angles), np.sin(angles)], 1) * random.integers(
        20, 60, (9, 1)
    )
    canvas = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([(points + 100).ravel().tolist()], 300, 300)))
    clipped = clip_polygon(points.ravel().tolist(), 120, 120)
    assert min(clipped) >= 0
    assert max(clipped) <= 120
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([clipped], 120, 120)))
    assert (drawn != canvas[100:220, 100:220]).mean() < 0.02  # at the edges it rounds
    assert clip_polygon([-9, -9, -1, -9, -1, -1], 120, 120) == []


class TestLabelMaps:
    """Of label maps, the list of images is mended; the maps themselves are left."""

    @pytest.fixture
    def maps(self, tmp_path) -> Maps:
        return Maps(tmp_path / 'maps')

    @pytest.mark.parametrize(
        ('check', 'spoil'),
        [
            ('label-missing', lambda maps: maps.label.unlink()),
            ('label-broken', lambda maps: maps.label.write_bytes(b'')),
            ('image-missing', lambda maps: (maps.root / 'images/train/1.jpg').write_text('no')),
            ('overlap', lambda maps: shutil.copy(maps.root / 'images/train/1.jpg', maps.root / 'images/val/3.jpg')),
        ],
    )
    def test_what_cannot_be_read_or_is_in_both_parts_is_left_out(self, maps, check, spoil, tmp_path):
        spoil(maps)
        before = digest(maps.root)
        done = fix_data(maps.cfg, tmp_path / 'out')
        assert [(row.check, row.count) for row in done.rows] == [(check, 1)]
        assert (tmp_path / 'out/train.txt').read_text().split() == ['0', '2', '3']
        assert 'ann_file' not in maps.cfg.val_dataloader.dataset
        assert check_data(maps.cfg).rows == []
        assert digest(maps.root) == before

    def test_wrong_values_are_left(self, maps, tmp_path):
        maps.save(np.full((12, 16), 7, np.uint8))
        assert fix_data(maps.cfg, tmp_path / 'out').rows == []
