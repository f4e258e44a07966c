"""Kinds of error are those of TIDE: made cases with one error each, and its authors' own program on made-up results."""

import importlib.util
import json
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from samples.made_up_results import CATEGORIES, annotations, made_up

from swin_mm.datasets.analysis.detection import read_truth
from swin_mm.datasets.analysis.error_kinds import BACKGROUND_KIND, KINDS, RIGHT, Errors, gains, name_errors
from swin_mm.datasets.analysis.matches import Evaluation

NUMBERS = list(CATEGORIES)
CAT, DOG, _ = NUMBERS
THERE = [100.0, 100, 100, 100]
THEIRS = ['BoxError', 'ClassError', 'OtherError', 'DuplicateError', 'BackgroundError', 'MissedError']


def errors_of(folder, truth: dict, found: list[dict]) -> Errors:
    (folder / 'truth.json').write_text(json.dumps(truth))
    coco = read_truth(SimpleNamespace(ann_file=str(folder / 'truth.json'), backend_args=None))
    return name_errors(Evaluation(coco, found, 'bbox', NUMBERS).images())


def moved(share: float) -> list[float]:
    """The box of the object, moved sideways by a share of its width: IoU (1 - share) / (1 + share)."""
    return [100 + 100 * share, *THERE[1:]]


@pytest.mark.parametrize(
    ('kind', 'found', 'gain'),
    [
        ('localisation', [(CAT, moved(0.5), 0.9)], 1),  # IoU 1/3
        ('class', [(DOG, moved(0.1), 0.9)], 1),
        ('both', [(DOG, moved(0.5), 0.9)], 0),
        ('duplicate', [(CAT, moved(0.1), 0.9), (CAT, THERE, 0.8)], 0),  # the better score is right
        ('background', [(CAT, [400.0, 300, 50, 50], 0.9), (CAT, THERE, 0.8)], 0.5),
        ('missed', [], 0),
    ],
)
def test_each_kind_of_error_is_that_one(tmp_path, kind, found, gain):
    """One cat; in another image a dog that is found, so that something is."""
    objects = [dict(image_id=0, category_id=CAT, bbox=THERE), dict(image_id=1, category_id=DOG, bbox=THERE)]
    found = [dict(image_id=0, category_id=number, bbox=box, score=score) for number, box, score in found]
    found.append(dict(image_id=1, category_id=DOG, bbox=THERE, score=0.95))
    errors = errors_of(tmp_path, annotations(objects, 2), found)
    counts = dict(zip(KINDS, errors.counts(3).sum(1).tolist(), strict=True))
    # What means nothing leaves the cat unfound.
    expected = {kind: 1} | ({'missed': 1} if kind == 'both' else {})
    assert {name: count for name, count in counts.items() if count} == expected
    by_class = gains(errors, 3)[1]
    assert by_class[KINDS.index(kind), 0] == pytest.approx(1 if kind == 'missed' else gain)


def test_an_image_without_objects_or_without_predictions_has_errors_too(tmp_path):
    truth = annotations([dict(image_id=0, category_id=CAT, bbox=THERE)], 3)
    errors = errors_of(tmp_path, truth, [dict(image_id=1, category_id=DOG, bbox=THERE, score=0.9)])
    assert errors.counts(3)[KINDS.index('background')].tolist() == [0, 1, 0]
    assert errors.counts(3)[KINDS.index('missed')].tolist() == [1, 0, 0]


def test_an_object_is_mended_once_and_by_the_best_prediction(tmp_path):
    """Two badly placed predictions of one cat: mended, one is right and the other gone; alone each would be right."""
    truth = annotations([dict(image_id=0, category_id=CAT, bbox=THERE)], 1)
    found = [dict(image_id=0, category_id=CAT, bbox=moved(0.5), score=score) for score in (0.4, 0.9)]
    errors = errors_of(tmp_path, truth, found)
    assert errors.counts(3).sum(1).tolist() == [2, 0, 0, 0, 0, 0]
    assert gains(errors, 3)[0].tolist() == [1, 0, 0, 0, 0, 0]


@pytest.fixture
def tide(monkeypatch):
    """TIDE by its authors, 1.0.1 was run; what only its drawing and downloads import need not be there."""
    if importlib.util.find_spec('tidecv') is None:
        pytest.skip("TIDE's own program is not installed: pip install --no-deps tidecv")
    for name in ('appdirs', 'pandas', 'seaborn'):
        if importlib.util.find_spec(name) is None:
            monkeypatch.setitem(sys.modules, name, MagicMock())
    return importlib.import_module('tidecv')


@pytest.mark.parametrize('seed', range(3))
def test_numbers_and_gains_are_those_of_tide(tmp_path, tide, seed):
    truth, found = made_up(seed)
    theirs_truth, theirs_found = tide.Data('truth'), tide.Data('found')
    for item in truth['annotations']:
        theirs_truth.add_ground_truth(item['image_id'], item['category_id'], item['bbox'])
    for item in found:
        theirs_found.add_detection(item['image_id'], item['category_id'], item['score'], item['bbox'])
    run = tide.TIDERun(theirs_truth, theirs_found, 0.5, 0.1, tide.TIDE.BOX, 100)

    def in_our_order(values: dict) -> list:
        named = {kind.__name__: value for kind, value in values.items()}
        return [named[kind] for kind in THEIRS]

    errors = errors_of(tmp_path, truth, found)
    assert errors.counts(3).sum(1).tolist() == in_our_order(run.count_errors())
    assert min(errors.counts(3).sum(1)) > 5
    got, _ = gains(errors, 3)
    np.testing.assert_allclose(100 * got, in_our_order(run.fix_main_errors()), rtol=1e-9, atol=1e-9)


def test_gains_start_from_pycocotools_ap50(tmp_path):
    """Without any wrong prediction the precision is 1 as far as the recall goes."""
    truth, found = made_up()
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    coco = read_truth(SimpleNamespace(ann_file=str(tmp_path / 'truth.json'), backend_args=None))
    evaluation = Evaluation(coco, found, 'bbox', NUMBERS)
    errors = name_errors(evaluation.images())
    all_of_one = errors._replace(kinds=np.where(errors.kinds == RIGHT, RIGHT, BACKGROUND_KIND))
    best = gains(all_of_one, 3)[1][BACKGROUND_KIND] + evaluation.average_precisions()['AP50']
    recalls = np.bincount(errors.object_labels[errors.taken], minlength=3) / 37
    np.testing.assert_allclose(best, np.floor(100 * recalls + 1) / 101, rtol=1e-9)
