"""``analyze``: reads what ``test --out`` wrote, and says by name what does not fit."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from samples import tiny_segmentation

from swin_mm.commands import analyze, predict
from swin_mm.commands import test as test_command
from swin_mm.errors import PreflightError

FILES = ['metrics.csv', 'analysis.json', 'confusion.png', 'precision_recall.png', 'error_kinds.png']


@pytest.fixture(scope='module')
def tested(tiny, tmp_path_factory):
    """What a very small detector finds: the folder of found.bbox.json and found.segm.json, and the metrics."""
    folder = tmp_path_factory.mktemp('tested')
    words = [str(tiny.config), str(tiny.checkpoint), '--work-dir', str(folder), '--out', str(folder / 'found.json')]
    return folder, test_command.main([*words, '--cfg-options', f'data_root={tiny.data}'])


def run(tiny, predictions, folder, *words, options=()) -> list[Path]:
    words = [str(tiny.config), str(predictions), '--out', str(folder), *words]
    analyze.main([*words, '--cfg-options', f'data_root={tiny.data}', *options])
    return sorted(folder.iterdir())


@pytest.mark.parametrize(('name', 'kind'), [('found.json', 'segm'), ('found.bbox.json', 'bbox')])
def test_what_a_test_wrote_is_analysed_with_its_numbers(tiny, tested, tmp_path, capsys, name, kind):
    results, metrics = tested
    files = run(tiny, results / name, tmp_path / 'out')
    assert {path.name for path in files} == {*FILES, 'false_positives.jpg', 'misses.jpg'}
    content = json.loads((tmp_path / 'out/analysis.json').read_text())
    assert content['kind'] == kind
    names = dict(AP='mAP', AP50='mAP_50', AP75='mAP_75', small='mAP_s', medium='mAP_m', large='mAP_l')
    for ours, theirs in names.items():
        score = content['mean'][ours]
        assert (-1 if score is None else score) == pytest.approx(metrics[f'coco/{kind}_{theirs}'], abs=5.1e-4), ours
    rows = list(csv.DictReader((tmp_path / 'out/metrics.csv').open()))
    assert [row['class'] for row in rows] == ['box', 'disc']
    assert [row['objects'] for row in rows] == ['4', '4']
    lines = capsys.readouterr().out.splitlines()
    assert f'{results}/found.{kind}.json: 20 {"masks" if kind == "segm" else "boxes"} in 4 images' in lines
    assert sorted(lines[-len(files) :]) == [str(path) for path in files]


def test_confusions_count_from_the_score_that_is_said(tiny, tested, tmp_path):
    run(tiny, tested[0] / 'found.json', tmp_path, '--pred-score-thr', '0')
    confusion = json.loads((tmp_path / 'analysis.json').read_text())['confusion']
    assert confusion['score'] == 0
    assert sum(row[k] for row in confusion['annotated_by_found'] for k in range(2)) == 20


def test_tables_are_there_without_the_images(tiny, tested, tmp_path):
    """The sheets come last."""
    shutil.copytree(tiny.data, tmp_path / 'data')
    shutil.rmtree(tmp_path / 'data/images')
    options = [f'test_dataloader.dataset.data_root={tmp_path}/data']
    with pytest.raises(PreflightError, match=r'images/\d\.jpg'):
        run(tiny, tested[0] / 'found.json', tmp_path / 'out', options=options)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(FILES)


RESULT = dict(image_id=0, category_id=1, bbox=[1, 2, 3, 4], score=0.5)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ([], 'holds no predictions: the model found nothing'),
        (
            [dict(RESULT, image_id=7), dict(RESULT, image_id=8)],
            r'images that the annotations do not list, image_id 7, 8:',
        ),
        ([dict(RESULT, category_id=9)], r'none of the classes 1 \(box\), 2 \(disc\), category_id 9: is it of another'),
        ([dict(RESULT, score=None)], "has {'image_id': 0.* 'score': None} at place 0"),
        ([RESULT, dict(RESULT, bbox=[1, 2, 3])], 'at place 1'),
        ([dict(RESULT, segmentation=[[1, 2, 3, 4, 5, 6]])], 'at place 0'),
        (
            [dict(RESULT, segmentation=dict(size=[5, 6], counts='a'))],
            r'5 x 6 \(height x width\) for image 0, .* 96 x 128',
        ),
        ([1], 'has 1 at place 0'),
        (dict(labels=[], bboxes=[]), 'must hold results in COCO.*, got dict in'),
        ('{', 'must hold results in COCO.*, got str in'),
    ],
)
def test_results_that_do_not_fit_are_refused(tiny, tmp_path, content, words):
    (tmp_path / 'x.json').write_text(json.dumps(content))
    with pytest.raises(PreflightError, match=words):
        run(tiny, tmp_path / 'x.json', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (
            dict(segmentation=[]),
            r'must have a segmentation for each object, .* predictions of boxes, got .*\.segm\.json',
        ),
        (dict(iscrowd=1), r'instances\.json must have objects of the classes, and has none'),
    ],
)
def test_annotations_that_do_not_suit_are_refused(tiny, tested, tmp_path, change, words):
    content = json.loads((tiny.data / 'instances.json').read_text())
    content['annotations'] = [dict(item, **change) for item in content['annotations']]
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    options = [f'test_dataloader.dataset.ann_file={tmp_path}/instances.json']
    with pytest.raises(PreflightError, match=words):
        run(tiny, tested[0] / 'found.json', tmp_path / 'out', options=options)


def test_files_of_other_kinds_are_refused(tiny, tmp_path):
    (tmp_path / 'x.pkl').write_bytes(b'')
    for name, words in {
        'x.pkl': 'PREDICTIONS must be JSON, got .*: a pickle may run code .* --out FILE.json`',
        'gone.json': r'`swin-mm test .* there is no .*gone\.json',
        '.': 'must be a file .*, got the folder',
        'picture.png': 'must be a file with results .* got .*picture.png: ',
    }.items():
        if name == 'picture.png':
            Image.new('L', (4, 4)).save(tmp_path / name)
        with pytest.raises(PreflightError, match=words):
            run(tiny, tmp_path / name, tmp_path / 'out')


@pytest.fixture(scope='module')
def segmented(tmp_path_factory):
    """What a very small segmentor predicts, whose label files count from 1: itself, the folder and the metrics."""
    tiny = tiny_segmentation.trained(tmp_path_factory.getbasetemp())
    folder = tmp_path_factory.mktemp('segmented')
    words = [str(tiny.config), str(tiny.checkpoint), '--work-dir', str(folder), '--out', str(folder / 'maps')]
    return tiny, folder / 'maps', test_command.main([*words, '--cfg-options', f'data_root={tiny.data}'])


def test_label_maps_that_a_test_wrote_are_analysed_with_its_numbers(segmented, tmp_path, capsys):
    tiny, maps, metrics = segmented
    files = run(tiny, maps, tmp_path / 'out')
    assert [path.name for path in files] == ['analysis.json', 'confusion.png', 'images.csv', 'metrics.csv', 'worst.jpg']
    content = json.loads((tmp_path / 'out/analysis.json').read_text())
    got = dict(mIoU=content['mean']['IoU'], mAcc=content['mean']['accuracy'], aAcc=content['pixel_accuracy'])
    assert {key: 100 * value for key, value in got.items()} == pytest.approx(
        {key: metrics[key] for key in got}, abs=5.1e-3
    )
    assert f'{maps}: label maps of 4 images' in capsys.readouterr().out


def test_label_maps_that_predict_wrote_are_the_same(segmented, tmp_path):
    tiny, maps, _ = segmented
    images = str(tiny.data / 'images')
    predict.main([images, str(tiny.config), str(tiny.checkpoint), '--out-dir', str(tmp_path), '--no-save-vis'])
    found = [
        run(tiny, folder, tmp_path / name)[0].read_text() for name, folder in (('a', maps), ('b', tmp_path / 'preds'))
    ]
    first, second = (json.loads(text)['confusion'] for text in found)
    assert first == second


def test_a_score_is_no_matter_of_segmentation(segmented, tmp_path):
    tiny, maps, _ = segmented
    with pytest.raises(PreflightError, match=r'--pred-score-thr is for detection only, but .* is for segmentation'):
        run(tiny, maps, tmp_path, '--pred-score-thr', '0.5')


def test_data_sets_of_another_kind_are_refused(tiny, tmp_path):
    lines = f"_base_ = '{tiny.config}'\nval = _base_.test_dataloader.dataset\n"
    lines += "test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[val, val]))\n"
    (tmp_path / 'two.py').write_text(lines)
    words = [str(tmp_path / 'two.py'), 'x.json', '--cfg-options', f'data_root={tiny.data}']
    with pytest.raises(
        PreflightError, match=r"must be one in COCO's format .* or one of label maps .*, got ConcatDataset in .*two\.py"
    ):
        analyze.main(words)
