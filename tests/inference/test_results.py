"""What people do with results: count, loop, filter, convert, draw."""

import gc
import io
import sys
import weakref

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from swin_mm.inference import Detections, Detector, Origin, Segmentation
from swin_mm.inference.conversions import outlines, run_lengths

CLASSES = ('cat', 'dog', 'bird')
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
HEIGHT, WIDTH = 60, 80


def some_masks() -> np.ndarray:
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 10:30, 5:25] = masks[1, 40:60, 60:80] = masks[2, :10, 70:] = True
    return masks


@pytest.fixture
def found() -> Detections:
    boxes = np.array([[5, 10, 25, 30], [60, 40, 80, 60], [70, 0, 80, 10]], np.float32)
    scores, labels = np.array([0.9, 0.5, 0.25], np.float32), np.array([1, 0, 1])
    origin = Origin(classes=CLASSES, palette=COLOURS)
    return Detections(boxes, scores, labels, ['dog', 'cat', 'dog'], some_masks(), None, None, origin)


@pytest.fixture
def pixels() -> Segmentation:
    labels = np.full((HEIGHT, WIDTH), 2)
    labels[:15] = 0
    return Segmentation(labels, {'bird': 0.75, 'cat': 0.25}, None, Origin(classes=CLASSES, palette=COLOURS))


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 100, np.uint8)


def test_objects_are_counted_and_looped_over(found):
    assert len(found) == 3
    objects = list(found)
    assert [(one.name, one.label, round(one.score, 2)) for one in objects] == [
        ('dog', 1, 0.9),
        ('cat', 0, 0.5),
        ('dog', 1, 0.25),
    ]
    np.testing.assert_array_equal([one.box for one in objects], found.boxes)
    np.testing.assert_array_equal([one.mask for one in objects], found.masks)


@pytest.mark.parametrize(
    ('wanted', 'kept'),
    [
        (dict(score=0.5), [0, 1]),
        (dict(classes=['dog']), [0, 2]),
        (dict(classes='dog'), [0, 2]),
        (dict(classes=[1, 'cat']), [0, 1, 2]),
        (dict(classes=0), [1]),
        (dict(score=0.3, classes='dog'), [0]),
        (dict(classes=[]), []),
        (dict(classes='bird'), []),
    ],
    ids=str,
)
def test_objects_are_filtered_in_every_array(found, wanted, kept):
    rest = found.filter(**wanted)
    for name in ('boxes', 'scores', 'labels', 'masks'):
        np.testing.assert_array_equal(getattr(rest, name), getattr(found, name)[kept])
    assert rest.names == [found.names[i] for i in kept]
    assert len(found) == 3


@pytest.mark.parametrize(
    ('classes', 'words'), [('bidr', "did you mean 'bird'?"), ('truck', 'they are cat, dog, bird'), (3, 'got 3')]
)
def test_an_unknown_class_is_refused_with_the_nearest(found, pixels, classes, words):
    for result in (found, pixels):
        with pytest.raises(ValueError, match='classes must be names or indices of the 3 classes') as caught:
            result.filter(classes=classes)
        assert words in str(caught.value)


def test_classes_of_pixels_are_counted_looped_over_and_filtered(pixels):
    assert len(pixels) == 2
    assert [(one.name, one.label, one.share, one.mask.sum()) for one in pixels] == [
        ('bird', 2, 0.75, 45 * 80),
        ('cat', 0, 0.25, 15 * 80),
    ]
    birds = pixels.filter('bird')
    assert birds.shares == {'bird': 0.75}
    np.testing.assert_array_equal(birds.labels, np.where(pixels.labels == 2, 2, -1))


def test_supervision_takes_objects_and_pixels(found, pixels):
    supervision = pytest.importorskip('supervision')
    objects = found.to_supervision()
    assert isinstance(objects, supervision.Detections)
    np.testing.assert_array_equal(objects.xyxy, found.boxes)
    np.testing.assert_array_equal(objects.mask, found.masks)
    np.testing.assert_array_equal(objects.confidence, found.scores)
    assert objects['class_name'].tolist() == found.names
    assert len(objects[objects.class_id == 1]) == 2
    assert len(found.filter(score=0.99).to_supervision()) == 0
    classes = pixels.to_supervision()
    assert classes.class_id.tolist() == [2, 0]
    assert classes.area.tolist() == [45 * 80, 15 * 80]
    assert len(pixels.filter([]).to_supervision()) == 0


def test_a_missing_supervision_is_named_with_the_extra(found, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'swin-mm\[own_data\]'"):
        found.to_supervision()


def test_coco_reads_what_it_is_given(found, pixels):
    records = found.to_coco(7, category_ids=[11, 12, 13])
    truth = COCO()
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 11)]
    truth.dataset = dict(images=[dict(id=7, height=HEIGHT, width=WIDTH)], categories=categories, annotations=[])
    truth.createIndex()
    read = truth.loadRes(records)
    loaded = read.loadAnns(read.getAnnIds())
    assert [one['category_id'] for one in loaded] == [12, 11, 12]
    assert [one['bbox'] for one in loaded] == [[5, 10, 20, 20], [60, 40, 20, 20], [70, 0, 10, 10]]
    np.testing.assert_array_equal([read.annToMask(one) for one in loaded], found.masks)
    assert [record['category_id'] for record in found.to_coco(7)] == [2, 1, 2]
    stuff = pixels.to_coco(7, category_ids={0: 92, 2: 94})
    assert [(one['category_id'], coco.area(one['segmentation'])) for one in stuff] == [(94, 45 * 80), (92, 15 * 80)]
    with pytest.raises(ValueError, match='category_ids must have an id for each class, got none for index 1'):
        found.to_coco(7, category_ids=[11])


def test_run_lengths_are_pycocotools_own():
    random = np.random.default_rng(0)
    masks = np.concatenate([random.random((6, 13, 17)) < 0.5, np.zeros((1, 13, 17), bool), np.ones((1, 13, 17), bool)])
    masks[1, :, 4:] = masks[2, :, :9] = False
    theirs = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    assert [code['counts'] for code in run_lengths(masks)] == [code['counts'].decode() for code in theirs]
    assert run_lengths(masks[:0]) == []


def disc(radius: int) -> np.ndarray:
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    return (y - 30) ** 2 + (x - 40) ** 2 < radius**2


@pytest.mark.parametrize(('mask', 'least'), [(some_masks()[0], 1), (disc(3), 0.8), (disc(10), 0.95), (disc(25), 0.97)])
def test_an_outline_fills_its_mask(mask, least):
    (outline,) = outlines(mask)
    codes = coco.frPyObjects([outline.ravel().astype(float).tolist()], HEIGHT, WIDTH)
    filled = coco.decode(codes)[..., 0].astype(bool)
    assert (filled & mask).sum() / (filled | mask).sum() >= least
    assert len(outline) < 40


def test_pieces_have_outlines_of_their_own_the_largest_first():
    mask = some_masks()[1:].any(0)
    assert [(piece.min(0).tolist(), piece.max(0).tolist()) for piece in outlines(mask)] == [
        ([60, 40], [80, 60]),
        ([70, 0], [80, 10]),
    ]
    assert outlines(np.zeros((HEIGHT, WIDTH), bool)) == []
    pixel = np.zeros((HEIGHT, WIDTH), bool)
    pixel[-1, -1] = True
    assert sorted(outlines(pixel)[0].tolist()) == [[79, 59], [79, 60], [80, 59], [80, 60]]


def test_the_drawing_shows_objects_that_score_enough_and_changes_no_array(found, grey):
    drawn = found.plot(grey, score=0.4)
    assert drawn.shape == grey.shape
    assert (grey == 100).all()
    changed = (drawn != 100).any(2)
    np.testing.assert_array_equal(drawn[25, 15], [50, 178, 50])  # half grey, half the green of dogs
    np.testing.assert_array_equal(drawn[52, 70], [178, 50, 50])
    assert not changed[:9].any()
    assert (found.plot(grey, score=0.2)[5, 75] != 100).any()
    np.testing.assert_array_equal(found.plot(grey, score=0.95), grey)
    np.testing.assert_array_equal(found.plot(grey, palette=[(1, 1, 1)] * 3)[25, 15], [50, 50, 50])


def test_the_drawing_is_in_rgb(pixels):
    blue = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    blue[..., 0] = 200  # BGR, as models take them
    drawn = pixels.filter('cat').plot(blue, opacity=0.25)
    np.testing.assert_array_equal(drawn[5, 5], [64, 0, 150])
    np.testing.assert_array_equal(drawn[40, 5], [0, 0, 200])
    named = pixels.plot(blue, with_labels=True)
    assert (named != pixels.plot(blue)).any()


def test_a_result_without_a_file_needs_the_image(found):
    with pytest.raises(ValueError, match='plot needs the image'):
        found.plot()
    assert found._repr_png_() is None


def test_a_result_lets_go_of_its_pixels(tiny):
    detector = Detector(tiny.config, tiny.checkpoint, 'cpu')
    pixels = detector.read(tiny.data / 'images/0.jpg')
    held = weakref.ref(pixels)
    (found,) = detector(pixels)
    del pixels
    gc.collect()
    assert len(found) == 5
    assert held() is None


def test_a_result_remembers_its_file(tiny):
    detector = Detector(tiny.config, tiny.checkpoint, 'cpu')
    path = tiny.data / 'images/0.jpg'
    (found,), (of_array,) = detector(path), detector(detector.read(path))
    assert found.origin.path == str(path)
    assert of_array.origin.path is None
    np.testing.assert_array_equal(found.plot(score=0), of_array.plot(detector.read(path), score=0))
    with Image.open(io.BytesIO(found._repr_png_())) as shown:
        np.testing.assert_array_equal(np.asarray(shown), found.plot())
    with pytest.raises(ValueError, match="did you mean 'disc'"):
        found.filter(classes='disk')
