"""Scores of label maps are those of mmseg's metric, confusions those of scikit-learn; what does not fit is named."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from swin_mm.datasets.analysis.segmentation import SegmentationAnalysis
from swin_mm.datasets.browsing import Split
from swin_mm.errors import PreflightError

CLASSES = ('box', 'sky', 'rest', 'unseen')
SIZES = ((20, 30), (25, 18), (40, 40))  # height, width


@pytest.fixture(params=[False, True], ids=['from 0', 'from 1'])
def data(request, tmp_path):
    """Images, label maps without the class 'unseen', and wrong ones: maps of what is annotated and found, by image."""
    random, lifted = np.random.default_rng(0), request.param
    for name in ('images', 'labels', 'found'):
        (tmp_path / name).mkdir()
    maps = {}
    for i, (height, width) in enumerate(SIZES):
        truth = random.integers(0, 3, (height, width)).astype(np.uint8)
        found = np.where(random.random((height, width)) < 0.3 * i, random.integers(0, 3, (height, width)), truth)
        truth[:3] = 255
        Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(tmp_path / f'images/{i}.jpg')
        # Lifted by one, the ignored 255 becomes 0.
        Image.fromarray((truth + np.uint8(lifted)).astype(np.uint8)).save(tmp_path / f'labels/{i}.png')
        Image.fromarray((found + lifted).astype(np.uint8)).save(tmp_path / f'found/{i}.png')
        maps[f'{i}.jpg'] = truth, found
    return SimpleNamespace(root=tmp_path, maps=maps, lifted=lifted)


def split(data, steps=None) -> Split:
    loads = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(data.root),
        reduce_zero_label=data.lifted,
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=CLASSES, palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]),
        pipeline=[*(loads if steps is None else steps), dict(type='PackSegInputs')],
    )
    return Split(Config(dict(default_scope='mmseg', test_dataloader=dict(dataset=dataset))), 'test')


def test_scores_are_those_of_mmsegs_metric(data):
    from mmseg.evaluation import IoUMetric

    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=CLASSES)
    for truth, found in data.maps.values():
        truth, found = (dict(data=torch.from_numpy(part.astype(np.int64))) for part in (truth, found))
        metric.process({}, [dict(pred_sem_seg=found, gt_sem_seg=truth)])
    want = metric.evaluate(len(data.maps))
    content = SegmentationAnalysis(split(data), data.root / 'found').as_json()
    got = dict(mIoU=content['mean']['IoU'], mAcc=content['mean']['accuracy'], aAcc=content['pixel_accuracy'])
    assert {key: 100 * value for key, value in got.items()} == pytest.approx(want, abs=5.1e-3)  # two decimals


def test_confusions_are_those_of_scikit_learn_without_ignored_pixels(data):
    metrics = pytest.importorskip('sklearn.metrics', reason='scikit-learn counts the same: pip install scikit-learn')
    truth, found = (np.concatenate([part[i].ravel() for part in data.maps.values()]) for i in (0, 1))
    want = metrics.confusion_matrix(truth, found, labels=range(4))
    got = SegmentationAnalysis(split(data), data.root / 'found').matrix
    np.testing.assert_array_equal(got, want)
    assert got.sum() == sum(height * width - 3 * width for height, width in SIZES)


def test_each_class_has_its_scores_and_one_that_is_nowhere_has_none(data):
    rows = SegmentationAnalysis(split(data), data.root / 'found').rows()
    truth, found = (np.concatenate([part[i].ravel() for part in data.maps.values()]) for i in (0, 1))
    found = np.where(truth == 255, 255, found)
    for k, row in enumerate(rows[:3]):
        both = ((truth == k) & (found == k)).sum()
        assert row['class'] == CLASSES[k]
        assert row['pixels'] == (truth == k).sum()
        assert row['IoU'] == pytest.approx(both / ((truth == k) | (found == k)).sum())
        assert row['accuracy'] == pytest.approx(both / (truth == k).sum())
    assert rows[3]['pixels'] == 0
    assert np.isnan([rows[3]['IoU'], rows[3]['accuracy']]).all()


def test_the_worst_images_come_first_on_the_sheet(data):
    analysis = SegmentationAnalysis(split(data), data.root / 'found')
    paths = {path.name: path for path in analysis.write(data.root)}
    assert list(paths) == ['metrics.csv', 'images.csv', 'analysis.json', 'confusion.png', 'worst.jpg']
    lines = paths['images.csv'].read_text().splitlines()
    assert [line.split(',')[1] for line in lines[1:]] == ['2.jpg', '1.jpg', '0.jpg']
    assert lines[3].endswith(',1.0,1.0')
    assert json.loads(paths['analysis.json'].read_text())['classes'][3]['IoU'] is None
    sheet = Image.open(paths['worst.jpg'])
    assert sheet.size == (3 * 408 + 8, 3 * 448 + 8)
    pixels = np.asarray(sheet.convert('RGB')).astype(int)
    annotated, found = (pixels[48:448, x : x + 400] for x in (416, 824))
    assert abs(annotated - found).mean() > 5, 'image 2 is the first'


def test_maps_of_predict_count_from_0(data):
    """It writes a JSON beside each."""
    want = SegmentationAnalysis(split(data), data.root / 'found').matrix
    for name, (_, found) in data.maps.items():
        path = data.root / 'found' / name
        Image.fromarray(found.astype(np.uint8)).save(path.with_suffix('.png'))
        path.with_suffix('.json').write_text('{}')
    np.testing.assert_array_equal(SegmentationAnalysis(split(data), data.root / 'found').matrix, want)


def break_size(folder):
    Image.new('L', (5, 5), 1).save(folder / '0.png')


def break_values(folder):
    Image.new('L', SIZES[0][::-1], 77).save(folder / '0.png')


def break_colours(folder):
    Image.new('RGB', SIZES[0][::-1]).save(folder / '0.png')


def remove(folder):
    (folder / '1.png').unlink()


def remove_all(folder):
    for path in folder.iterdir():
        path.unlink()


def add(folder):
    Image.new('L', (5, 5)).save(folder / 'other.png')


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (break_size, r'0\.png must be as large as the label map of .*0\.jpg, 20 x 30 \(height x width\), got 5 x 5'),
        (break_values, r'label maps of 4 classes must hold (0 to 3|1 to 4), got 77 to 77 in .*0\.png'),
        (break_colours, r'must be a folder with a PNG of class indices .* got colours in .*0\.png'),
        (remove, 'must have a PNG for each image, and has none of 1$'),
        (remove_all, 'must be a folder with a PNG .* without a PNG'),
        (add, 'has predictions of images that the data set does not have, other: is it of another data set'),
    ],
)
def test_maps_that_do_not_fit_are_refused(data, spoil, words):
    spoil(data.root / 'found')
    with pytest.raises(PreflightError, match=words):
        SegmentationAnalysis(split(data), data.root / 'found')


def test_a_folder_that_is_none_and_labels_outside_the_classes_are_named(data):
    with pytest.raises(PreflightError, match=r'must be a folder with a PNG .*, and .*0\.png is no folder'):
        SegmentationAnalysis(split(data), data.root / 'found/0.png')
    with pytest.raises(ValueError, match='the pipeline must load label maps'):
        SegmentationAnalysis(split(data, [dict(type='LoadImageFromFile')]), data.root / 'found')
    Image.new('L', SIZES[0][::-1], 9).save(data.root / 'labels/0.png')
    with pytest.raises(PreflightError, match=r'labels must be below 4, .* got [89] in .*labels/0\.png'):
        SegmentationAnalysis(split(data), data.root / 'found')


def test_images_of_one_name_are_refused(data):
    """mmseg writes both into one file."""
    (data.root / 'images/more').mkdir()
    (data.root / 'labels/more').mkdir()
    for folder, end in (('images', 'jpg'), ('labels', 'png')):
        shutil.copy(data.root / folder / f'0.{end}', data.root / folder / 'more')
    with pytest.raises(PreflightError, match=r'images must have different names .* got 0 more than once'):
        SegmentationAnalysis(split(data), data.root / 'found')
