"""Scores of the package lvis, on a NumPy that has no ``np.float``."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip('lvis', reason='the package lvis is not installed: pip install lvis')
from lvis import LVIS, LVISEval, LVISResults


@pytest.fixture
def truth(tmp_path) -> LVIS:
    """Two pictures: two boxes of the first class in one, one of the second in the other."""
    images = [dict(id=i, height=100, width=100, neg_category_ids=[], not_exhaustive_category_ids=[]) for i in (1, 2)]
    categories = [dict(id=1, name='axe', frequency='r'), dict(id=2, name='bed', frequency='f')]
    boxes = [(1, 1, [0, 0, 40, 40]), (1, 1, [50, 50, 40, 40]), (2, 2, [10, 10, 40, 40])]
    annotations = [
        dict(id=i, image_id=image, category_id=category, bbox=box, area=1600, segmentation=[])
        for i, (image, category, box) in enumerate(boxes, 1)
    ]
    file = tmp_path / 'truth.json'
    file.write_text(json.dumps(dict(images=images, categories=categories, annotations=annotations)))
    return LVIS(str(file))


def test_boxes_are_scored(truth):
    found = [
        dict(image_id=1, category_id=1, bbox=[0, 0, 40, 40], score=0.9),
        dict(image_id=2, category_id=2, bbox=[10, 10, 40, 40], score=0.8),
    ]
    scores = LVISEval(truth, LVISResults(truth, found), 'bbox')
    scores.run()
    # 101 points of recall, of which the class that is half found reaches 0 to 0.5.
    assert (scores.results['APr'], scores.results['APf']) == pytest.approx((51 / 101, 1.0))


def test_the_numpy_of_everybody_else_stays_as_it_is():
    assert not hasattr(np, 'float')
    assert sys.modules['numpy'] is np
