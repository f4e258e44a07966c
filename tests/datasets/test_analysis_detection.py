"""Scores and confusions of an analysis are those of pycocotools and supervision, on made-up results."""

import contextlib
import copy
import io
import json
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from samples.made_up_results import CATEGORIES, HEIGHT, WIDTH, annotations, made_up

from swin_mm.datasets.analysis.confusions import confusions
from swin_mm.datasets.analysis.detection import read_truth
from swin_mm.datasets.analysis.error_kinds import RIGHT, kinds_of
from swin_mm.datasets.analysis.error_sheets import FOUND, THERE, ErrorSheets
from swin_mm.datasets.analysis.matches import IN_CROWD, Evaluation

NUMBERS = list(CATEGORIES)


def evaluate(folder, truth: dict, found: list[dict], kind: str = 'bbox') -> Evaluation:
    (folder / 'truth.json').write_text(json.dumps(truth))
    coco = read_truth(SimpleNamespace(ann_file=str(folder / 'truth.json'), backend_args=None))
    return Evaluation(coco, found, kind, NUMBERS)


def as_masks(item: dict) -> dict:
    """A box as a mask of run lengths, without its upper left quarter."""
    x, y, width, height = (round(value) for value in item['bbox'])
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[max(y, 0) : y + height, max(x, 0) : x + width] = 1
    mask[max(y, 0) : y + height // 2, max(x, 0) : x + width // 2] = 0
    code = masks.encode(mask)
    return dict(item, segmentation=dict(code, counts=code['counts'].decode()))


def by_pycocotools(truth: dict, found: list[dict], kind: str, number: int) -> np.ndarray:
    """AP, AP50, AP75 and AP of small, medium and large objects of one class, as pycocotools' demo has it."""
    coco = COCO()
    coco.dataset = copy.deepcopy(truth)
    for i, item in enumerate(coco.dataset['annotations'], 1):
        item['id'] = i
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(found)), kind)
        evaluation.params.catIds = [number]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6]


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_average_precisions_are_those_of_pycocotools_by_class_and_size(tmp_path, kind):
    truth, found = made_up()
    if kind == 'segm':
        truth['annotations'] = [as_masks(item) for item in truth['annotations']]
        for item in truth['annotations']:
            item['area'] = float(masks.area(item['segmentation']))
        found = [as_masks(item) for item in found]
    scores = evaluate(tmp_path, truth, found, kind).average_precisions()
    if kind == 'segm':
        for item in found:
            del item['bbox']  # or pycocotools would take the area of the box
    assert list(scores) == ['AP', 'AP50', 'AP75', 'small', 'medium', 'large']
    for k, number in enumerate(NUMBERS):
        want = by_pycocotools(truth, found, kind, number)
        assert 0 < want.min() < want.max() < 1
        np.testing.assert_allclose([column[k] for column in scores.values()], want, rtol=1e-12)


def test_a_class_without_objects_has_no_score(tmp_path):
    truth, found = made_up()
    truth['annotations'] = [item for item in truth['annotations'] if item['category_id'] != NUMBERS[1]]
    scores = evaluate(tmp_path, truth, found).average_precisions()
    assert all(np.isnan(column).tolist() == [False, True, False] for column in scores.values())


def test_the_curve_goes_through_known_points(tmp_path):
    """Four objects; the second prediction is wrong, two objects are never found."""
    boxes = [[100.0 * i, 100, 50, 50] for i in range(4)]
    truth = annotations([dict(image_id=0, category_id=3, bbox=box) for box in boxes], images=1)
    places = {0.9: boxes[0], 0.8: [300.0, 300, 50, 50], 0.7: boxes[1]}
    found = [dict(image_id=0, category_id=3, bbox=box, score=score) for score, box in places.items()]
    curve = evaluate(tmp_path, truth, found).precision[0, :, 0, 0]
    np.testing.assert_allclose(curve[:26], 1)  # one of four
    np.testing.assert_allclose(curve[26:51], 2 / 3)  # two of four, three predictions
    np.testing.assert_allclose(curve[51:], 0)


@pytest.mark.parametrize('score', [0.0, 0.3, 0.7])
def test_confusions_are_those_of_supervision(tmp_path, score):
    supervision = pytest.importorskip('supervision', reason='supervision counts the same: pip install supervision')
    truth, found = made_up(images=8)

    def detections(items):
        boxes = np.array([item['bbox'] for item in items], np.float64).reshape(-1, 4)
        labels = np.array([NUMBERS.index(item['category_id']) for item in items], int)
        scores = np.array([item.get('score', 1) for item in items])
        return supervision.Detections(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]), None, scores, labels)

    by_image = [
        [detections([item for item in items if item['image_id'] == i]) for i in range(8)]
        for items in (found, truth['annotations'])
    ]
    names = list(CATEGORIES.values())
    want = supervision.ConfusionMatrix.from_detections(*by_image, names, score, 0.5).matrix
    got = confusions(list(evaluate(tmp_path, truth, found).images()), len(NUMBERS), score)
    assert want[:-1, :-1].sum() > want[:-1, :-1].trace() > 20
    np.testing.assert_array_equal(got, want)
    assert got[:-1].sum() == 3 * 37


def test_a_prediction_in_a_crowd_is_neither_right_nor_wrong(tmp_path):
    crowd = dict(image_id=0, category_id=3, bbox=[100.0, 100, 200, 200], iscrowd=1)
    single = dict(image_id=0, category_id=3, bbox=[400.0, 100, 50, 50])
    boxes = ([120.0, 120, 50, 50], [400.0, 100, 50, 50], [500.0, 300, 50, 50])
    found = [dict(image_id=0, category_id=3, bbox=box, score=0.9 - 0.1 * i) for i, box in enumerate(boxes)]
    (image, *_) = images = list(evaluate(tmp_path, annotations([crowd, single], 1), found).images())
    assert len(image.objects) == 1
    assert kinds_of(image)[0].tolist()[:2] == [IN_CROWD, RIGHT]
    assert confusions(images, 3, 0.0)[[0, 3], 0].tolist() == [1, 1]


def test_an_object_that_a_file_numbers_0_is_found_too(tmp_path):
    """pycocotools takes the number 0 for no object."""
    item = dict(image_id=0, category_id=3, bbox=[10.0, 10, 50, 50])
    truth = annotations([item], 1)
    assert truth['annotations'][0]['id'] == 0
    evaluation = evaluate(tmp_path, truth, [dict(item, score=0.9)])
    assert evaluation.average_precisions()['AP'][0] == pytest.approx(1)


def sheets(images) -> ErrorSheets:
    """Of one white image."""
    info = dict(img_id=0, img_path='folder/0.jpg')
    dataset = MagicMock(get_data_info=lambda index: info, __len__=lambda self: 1)
    split = SimpleNamespace(dataset=dataset, image=lambda index: np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    return ErrorSheets(split, images, list(CATEGORIES.values()), lambda item: None)


def test_predictions_without_an_area_or_outside_of_their_image_are_on_the_sheet_too(tmp_path):
    """Results of other programs may have them."""
    boxes = ([0, 0, 0, 0], [WIDTH + 500, HEIGHT + 500, 20, 20], [-300, 10, 20, 20])
    found = [dict(image_id=0, category_id=3, bbox=box, score=0.5) for box in boxes]
    truth = annotations([dict(image_id=0, category_id=1, bbox=[400.0, 200, 60, 30])], 1)
    (path,) = sheets(list(evaluate(tmp_path, truth, found).images())).false_positives(tmp_path / 'sheet.png')
    assert Image.open(path).size == (3 * 408 + 8, 448 + 8)


def test_a_sheet_shows_the_prediction_and_the_object_where_they_are(tmp_path):
    """In a crop of 120 pixels around a prediction 48 wide, drawn at 400: 10 / 3 pixels for each."""
    there, found = [200.0, 200, 60, 30], [230.0, 210, 48, 48]
    truth = annotations([dict(image_id=0, category_id=1, bbox=there)], 1)
    truth['annotations'].append(dict(truth['annotations'][0], bbox=[5.0, 5, 20, 20]))  # out of the crop
    images = list(evaluate(tmp_path, truth, [dict(image_id=0, category_id=3, bbox=found, score=0.9)]).images())
    (path,) = sheets(images).false_positives(tmp_path / 'sheet.png')
    sheet = np.asarray(Image.open(path))[48:448, 8:408]  # below two lines of text
    for colour, (x, y, width, height) in ((FOUND, found), (THERE, there)):
        rows, columns = np.nonzero((sheet == colour).all(2))
        left, top = np.array([x - (254 - 60), y - (234 - 60)]) * 10 / 3
        got = columns.min(), columns.max(), rows.min(), rows.max()
        want = left, left + width * 10 / 3, top, top + height * 10 / 3
        np.testing.assert_allclose(got, np.clip(want, 0, 399), atol=2)
