"""The table of objects holds what COCO's annotations and brute force over label maps say."""

import csv
import json
from collections import deque

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from samples.tiny_training import ROOT

from swin_mm.commands import browse
from swin_mm.datasets.object_statistics import Object, write_statistics
from swin_mm.datasets.shapes.write import write_shapes
from swin_mm.errors import PreflightError

DETECTOR, SEGMENTOR = (ROOT / f'configs/{name}_swin_pico_shapes.py' for name in ('mask_rcnn', 'upernet'))


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('stats') / 'shapes', train=4, val=1)


def measured(config, shapes, folder, *options: str) -> list[dict]:
    browse.main([str(config), '--stats', '--out', str(folder), '--cfg-options', f'data_root={shapes}', *options])
    assert Image.open(folder / 'train_stats.png').size == (1100, 900)
    with open(folder / 'train_objects.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_boxes_are_those_of_the_annotations(shapes, tmp_path):
    content = json.loads((shapes / 'annotations/instances_train.json').read_text())
    images = {image['id']: image for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    expected = [
        (images[item['image_id']]['file_name'], names[item['category_id']], *item['bbox'], bool(item['iscrowd']))
        for item in content['annotations']
    ]
    rows = measured(DETECTOR, shapes, tmp_path)
    found = [
        (
            row['image'],
            row['label'],
            *(float(row[key]) for key in ('x', 'y', 'width', 'height')),
            row['ignored'] == 'True',
        )
        for row in rows
    ]
    assert sorted(found) == sorted(expected)
    assert any(row['ignored'] == 'True' for row in rows)
    for row in rows:
        width, height = float(row['width']), float(row['height'])
        assert float(row['area']) == pytest.approx(width * height)
        assert float(row['aspect_ratio']) == pytest.approx(width / height)


def test_a_data_set_that_a_wrapper_repeats_is_measured_once(shapes, tmp_path):
    inner = Config.fromfile(DETECTOR).train_dataloader.dataset.to_dict()
    text = f"_base_ = '{DETECTOR}'\ntrain_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=3, "
    (tmp_path / 'wrapped.py').write_text(f'{text}dataset={inner}))\n')
    once, thrice = (measured(config, shapes, tmp_path) for config in (DETECTOR, tmp_path / 'wrapped.py'))
    assert thrice == once


def regions(label_map: np.ndarray) -> list[tuple]:
    """(label, x, y, width, height, pixels) of each region of one value, by flooding; corners touch."""
    left, found = {(y, x) for y in range(label_map.shape[0]) for x in range(label_map.shape[1])}, []
    while left:
        start = left.pop()
        label, region, queue = label_map[start], [start], deque([start])
        while queue:
            y, x = queue.popleft()
            for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if near in left and label_map[near] == label:
                    left.remove(near)
                    region.append(near)
                    queue.append(near)
        ys, xs = np.array(region).T
        found.append((int(label), *map(int, (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1, len(region)))))
    return sorted(found)


def test_regions_of_label_maps_are_those_of_a_flood(shapes, tmp_path):
    rows = measured(SEGMENTOR, shapes, tmp_path)
    classes = ('background', 'circle', 'square', 'triangle', 'star', 'cross')
    for path in sorted((shapes / 'semantic/train').glob('*.png')):
        keys = ('x', 'y', 'width', 'height', 'area')
        found = [row for row in rows if row['image'] == f'{path.stem}.jpg']
        numbers = [(classes.index(row['label']), *(int(row[key]) for key in keys)) for row in found]
        label_map = np.asarray(Image.open(path))
        assert sorted(numbers) == regions(label_map)
        assert {(int(row['image_height']), int(row['image_width'])) for row in found} == {label_map.shape}


def test_the_picture_counts_what_is_not_ignored(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda self, *_, **__: figures.append(self))
    place = (10.0, 20.0, 20.0, 10.0, 200.0, 100, 50)
    objects = [
        Object('a', label, *place, ignored) for label, ignored in [('cat', False)] * 3 + [('dog', False), ('dog', True)]
    ]
    write_statistics(tmp_path, 'train', objects)
    bars, _, shapes, places = figures[0].axes
    assert [bar.get_width() for bar in bars.patches] == [1, 3]
    assert [text.get_text() for text in bars.get_yticklabels()] == ['dog', 'cat']
    assert sum(bar.get_height() for bar in shapes.patches) == 4
    counts = places.collections[0].get_array().reshape(20, 20)  # rows are y
    assert counts[10, 4] == 4, 'at (0.2, 0.5) of the image'


def test_a_split_without_objects_is_refused(shapes, tmp_path):
    with pytest.raises(PreflightError, match='--stats needs objects that are not ignored, got 0'):
        measured(DETECTOR, shapes, tmp_path, 'train_dataloader.dataset.metainfo.classes="(\'unknown\',)"',
                 'train_dataloader.dataset.filter_cfg=None')  # fmt: skip
