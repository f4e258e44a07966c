"""What the embedded data set holds, read back with pycocotools, Pillow and scipy: the drawing is not its own judge."""

import colorsys

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage, stats

from swin_mm.datasets.shapes import write as shapes
from swin_mm.datasets.shapes.draw import visible_polygons


@pytest.fixture(scope='module', params=['train', 'val'])
def split(request):
    return request.param


@pytest.fixture(scope='module')
def coco(root, split):
    return COCO(str(root / 'annotations' / f'instances_{split}.json'))


def annotations_of(coco, image_id):
    return coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))


def smooth_masks():
    rng = np.random.default_rng(0)
    for _ in range(60):
        noise = ndimage.gaussian_filter(rng.standard_normal(rng.integers(5, 60, size=2)), rng.uniform(0.3, 4))
        yield noise > np.quantile(noise, rng.uniform(0.2, 0.95))


# Geometry


def test_polygons_rasterise_to_the_mask_and_are_refused_for_holes():
    with_hole = 0
    for mask in smooth_masks():
        polygons = visible_polygons(mask)
        has_hole = (ndimage.binary_fill_holes(mask) != mask).any()
        assert (polygons is None) == has_hole
        with_hole += has_hole
        if not has_hole:
            parts = rle.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *mask.shape)
            np.testing.assert_array_equal(rle.decode(rle.merge(parts)), mask)
    assert 10 < with_hole < 50


def test_run_lengths_are_those_of_coco():
    for mask in [np.zeros((3, 4), bool), np.ones((3, 4), bool), *smooth_masks()]:
        counts = shapes._run_lengths(mask)
        np.testing.assert_array_equal(
            rle.decode(rle.frPyObjects({'size': mask.shape, 'counts': counts}, *mask.shape)), mask
        )


# What is on disk


def test_area_and_box_are_those_of_the_rasterised_segmentation(coco):
    for annotation in coco.anns.values():
        encoded = coco.annToRLE(annotation)
        assert rle.area(encoded) == annotation['area'] > 0
        assert rle.toBbox(encoded).tolist() == annotation['bbox']


def test_masks_do_not_overlap_and_make_up_the_semantic_map(root, coco, split):
    for image_id, image in coco.imgs.items():
        semantic = np.asarray(Image.open(root / 'semantic' / split / image['file_name'].replace('.jpg', '.png')))
        assert semantic.dtype == np.uint8
        layers = [coco.annToMask(a) for a in annotations_of(coco, image_id)]
        assert np.max(np.sum(layers, axis=0)) == 1
        classes = [a['category_id'] for a in annotations_of(coco, image_id)]
        np.testing.assert_array_equal(semantic, np.einsum('n,nhw->hw', classes, layers))


def test_pictures_have_the_stated_size_and_number_of_shapes(root, coco, split, counts):
    assert len(coco.imgs) == counts[split] == len(list((root / split).iterdir()))
    sides = []
    for image_id, image in coco.imgs.items():
        with Image.open(root / split / image['file_name']) as picture:
            assert (picture.format, picture.mode) == ('JPEG', 'RGB')
            assert picture.size == (image['width'], image['height'])
            sides += picture.size
        assert 2 <= sum(not a['iscrowd'] for a in annotations_of(coco, image_id)) <= 6
    assert min(sides) >= 112
    assert max(sides) <= 160
    assert any(side % 32 for side in sides)


def test_one_crowd_as_rle_and_polygons_otherwise(coco):
    crowds = [a for a in coco.anns.values() if a['iscrowd']]
    assert [a['image_id'] for a in crowds] == [1]
    assert isinstance(crowds[0]['segmentation']['counts'], list)
    assert ndimage.label(coco.annToMask(crowds[0]))[1] > 3
    assert all(isinstance(a['segmentation'], list) for a in coco.anns.values() if not a['iscrowd'])


def test_edges_of_the_masks_are_edges_of_the_pictures(root, coco, split):
    """Inside and outside differ in colour: masks lie on what was painted, and nothing is camouflaged."""
    square = np.ones((3, 3))
    for annotation in coco.anns.values():
        if annotation['iscrowd']:
            continue
        picture = np.asarray(Image.open(root / split / f'{annotation["image_id"]:06d}.jpg'), dtype=float)
        mask = coco.annToMask(annotation)
        inside = (cv2.erode(mask, square) > cv2.erode(mask, square, iterations=3)).astype(bool)
        outside = (cv2.dilate(mask, square, iterations=3) > cv2.dilate(mask, square)).astype(bool)
        contrast = np.linalg.norm(picture[outside] - picture[inside].mean(axis=0), axis=1)
        assert np.percentile(contrast, 10) > 40, annotation['id']


def test_the_truth_scores_one(coco):
    """COCO's evaluation accepts the set: the annotations as predictions score 1, and the crowd costs nothing."""
    whole = [a for a in coco.anns.values() if not a['iscrowd']]
    for kind in ('bbox', 'segm'):
        found = [{**a, 'segmentation': coco.annToRLE(a), 'score': 1.0} for a in whole]
        evaluation = COCOeval(coco, coco.loadRes([{k: v for k, v in f.items() if k != 'id'} for f in found]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)


# Fairness


def test_classes_are_balanced_and_hue_tells_them_mostly(root):
    """Each has a typical hue, a fifth of the wheel apart; those of two classes meet, and there only outlines help."""
    coco = COCO(str(root / 'annotations' / 'instances_train.json'))
    assert tuple(c['name'] for c in coco.cats.values()) == shapes.CLASSES
    assert len(shapes.PALETTE) == len(shapes.CLASSES) == 5
    labels, hues = [], []
    for annotation in coco.anns.values():
        if not annotation['iscrowd']:
            picture = np.asarray(Image.open(root / 'train' / f'{annotation["image_id"]:06d}.jpg'))
            colour = picture[coco.annToMask(annotation) > 0].mean(axis=0) / 255
            labels.append(annotation['category_id'] - 1)
            hues.append(colorsys.rgb_to_hsv(*colour)[0])
    assert stats.chisquare(np.bincount(labels)).pvalue > 0.01
    guesses = np.round(np.array(hues) * 5) % 5
    assert 0.9 < np.mean(guesses == labels) < 0.99
