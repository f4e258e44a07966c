"""``test``: evaluates, writes predictions and pictures, and refuses what it cannot do."""

import json
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from samples.tiny_training import SIZES

from swin_mm.commands import test as test_command
from swin_mm.errors import PreflightError
from swin_mm.inference import Detector


@pytest.fixture(scope='module')
def main():
    return test_command.main


@pytest.fixture
def test(main, tiny, tmp_path):
    def test(*args, checkpoint=tiny.checkpoint, options=()):
        words = [str(tiny.config), str(checkpoint), '--work-dir', str(tmp_path), *args]
        return main([*words, '--cfg-options', f'data_root={tiny.data}', *options])

    return test


def test_evaluates_and_writes_predictions_and_pictures(test, tiny, tmp_path):
    metrics = test('--out', str(tmp_path / 'out/predictions.pkl'), '--show-dir', 'drawn')
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= metrics.keys()

    predictions = pickle.loads((tmp_path / 'out/predictions.pkl').read_bytes())
    paths = sorted(tiny.data.glob('images/*.jpg'))
    expected = Detector(tiny.config, tiny.checkpoint)(paths)
    for i, (prediction, found) in enumerate(zip(predictions, expected, strict=True)):
        assert prediction['img_id'] == i
        instances = prediction['pred_instances']
        np.testing.assert_allclose(instances['bboxes'], found.boxes, atol=1e-4)
        np.testing.assert_allclose(instances['scores'], found.scores, atol=1e-5)
        np.testing.assert_array_equal(coco.decode(instances['masks']).transpose(2, 0, 1), found.masks)

    drawn = sorted(tmp_path.glob('*/drawn/*.jpg'))
    assert [path.name for path in drawn] == [path.name for path in paths]
    for path, (height, width) in zip(drawn, SIZES, strict=True):
        assert Image.open(path).size == (2 * width, height)  # what is to be found, and what is found


def test_predictions_are_written_in_cocos_format(test, tiny, tmp_path):
    """Two files: boxes, and masks with the same scores."""
    test('--out', str(tmp_path / 'out/found.json'))
    content = json.loads((tiny.data / 'instances.json').read_text())
    boxes, masks = (json.loads((tmp_path / f'out/found.{kind}.json').read_text()) for kind in ('bbox', 'segm'))
    detector = Detector(tiny.config, tiny.checkpoint)
    for image in content['images']:
        found = detector(tiny.data / 'images' / image['file_name'])[0]
        mine = [item for item in boxes if item['image_id'] == image['id']]
        corners = [[x, y, x + width, y + height] for x, y, width, height in (item['bbox'] for item in mine)]
        np.testing.assert_allclose(corners, found.boxes, atol=1e-3)
        np.testing.assert_allclose([item['score'] for item in mine], found.scores, atol=1e-5)
        assert [item['category_id'] for item in mine] == [label + 1 for label in found.labels]
        decoded = [coco.decode(item['segmentation']) for item in masks if item['image_id'] == image['id']]
        np.testing.assert_array_equal(decoded, found.masks)


def test_pictures_of_one_name_in_two_folders_are_both_drawn(test, tiny, tmp_path):
    shutil.copytree(tiny.data, tmp_path / 'data')
    content = json.loads((tiny.data / 'instances.json').read_text())
    for i, image in enumerate(content['images'][:2]):
        image['file_name'] = f'{"ab"[i]}/x.jpg'
        (tmp_path / 'data/images' / 'ab'[i]).mkdir()
        (tmp_path / f'data/images/{i}.jpg').rename(tmp_path / 'data/images' / image['file_name'])
    (tmp_path / 'data/instances.json').write_text(json.dumps(content))
    test('--show-dir', 'drawn', options=[f'test_dataloader.dataset.data_root={tmp_path}/data'])
    sizes = {path.name: Image.open(path).size for path in tmp_path.glob('*/drawn/*')}
    expected = dict(zip(('x.jpg', 'x_2.jpg', '2.jpg', '3.jpg'), SIZES, strict=True))
    assert sizes == {name: (2 * width, height) for name, (height, width) in expected.items()}


@pytest.mark.parametrize('score', [0.0, 1.1])
def test_pictures_show_what_scores_above_the_threshold_of_the_config(test, tiny, tmp_path, score):
    test('--show-dir', 'drawn', options=[f'default_hooks.visualization.score_thr={score}'])
    drawn = np.asarray(Image.open(next(tmp_path.glob('*/drawn/0.jpg'))), int)[:, SIZES[0][1] :]
    changed = np.abs(drawn - np.asarray(Image.open(tiny.data / 'images/0.jpg'), int)).max()
    assert changed > 100 if score == 0.0 else changed < 100  # JPEG twice, on noise


@pytest.mark.parametrize(
    ('args', 'options', 'words'),
    [
        (['--tta'], ['tta_model=None'], r'--tta needs tta_model in .*tiny\.py'),
        (
            ['--out', 'predictions.txt'],
            [],
            r'--out must end in \.json, \.pkl, \.pickle .* for a detector, got predictions\.txt',
        ),
        (
            ['--out', 'a.json'],
            ['test_evaluator.type=DumpResults'],
            r'--out needs CocoMetric in test_evaluator, .* or a name that ends in \.pkl, got',
        ),
        (['--out', 'a.pkl'], ['default_scope=mmpose'], '--out works with detectors and segmentors only, got .*=mmpose'),
        (['--show'], ['default_scope=mmpose'], '--show works with detectors and segmentors only'),
        (['--show-dir', 'drawn'], ['default_scope=mmpose'], '--show-dir works with detectors and segmentors only'),
        (['--show-dir', 'drawn', '--launcher', 'mpi'], [], '--show-dir draws what the first process tests only'),
        ([], ['data_root=/gone'], r'annotation file /gone/instances\.json \(test_dataloader\)'),
    ],
)
def test_what_cannot_work_is_refused_by_name(test, tmp_path, args, options, words):
    with pytest.raises(PreflightError, match=words):
        test(*args, options=options)
    assert not list(tmp_path.iterdir())


def test_missing_checkpoint_is_named(test):
    with pytest.raises(PreflightError, match=r'checkpoint gone\.pth'):
        test(checkpoint='gone.pth')


def test_showing_without_a_display_is_refused(test, monkeypatch):
    monkeypatch.setattr('matplotlib.pyplot.get_backend', lambda: 'agg')
    with pytest.raises(PreflightError, match='--show needs a display'):
        test('--show')
