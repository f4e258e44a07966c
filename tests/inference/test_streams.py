"""Streams of images: read ahead in threads, batched by shape, in 16 bits or compiled."""

import shutil

import numpy as np
import pytest

from swin_mm.inference import Detector

SIZES = [(40, 90), (90, 40), (40, 88), (88, 40), (64, 64), (40, 86), (60, 64)]


@pytest.fixture(scope='module')
def detector(tiny):
    return Detector(tiny.config, tiny.checkpoint, device='cpu')


@pytest.fixture(scope='module')
def images():
    random = np.random.default_rng(0)
    return [random.integers(256, size=(*size, 3), dtype=np.uint8) for size in SIZES]


def equal(one, other):
    for field in ('boxes', 'scores', 'labels', 'masks'):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize(('batch_size', 'workers'), [(1, 1), (1, 3), (2, 2)])
def test_workers_change_nothing(detector, images, batch_size, workers):
    given = [*images[:3], ValueError('the camera is gone'), 'nowhere.jpg', *images[3:]]
    alone, ahead = (list(detector.stream(given, batch_size, number)) for number in (0, workers))
    assert str(ahead[3]) == 'the camera is gone'
    assert isinstance(ahead[4], FileNotFoundError)
    for i in (0, 1, 2, 5, 6, 7, 8):
        np.testing.assert_array_equal(ahead[i][0], alone[i][0])
        equal(ahead[i][1], alone[i][1])


def test_images_of_like_shape_share_a_batch(detector, images, monkeypatch):
    batches = []
    predict = detector.predict
    monkeypatch.setattr(
        detector, 'predict', lambda some: batches.append([one.pixels.shape[:2] for one in some]) or predict(some)
    )
    found = list(detector.stream(images, batch_size=3))
    assert batches == [[(40, 90), (40, 88), (40, 86)], [(60, 64), (64, 64), (88, 40)], [(90, 40)]]
    assert [pixels.shape[:2] for pixels, _ in found] == SIZES


def test_few_images_are_read_before_they_are_wanted(detector, images):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield images[0]

    stream = detector.stream(endless(), batch_size=1, workers=2)
    for _ in range(5):
        next(stream)
    stream.close()
    assert taken <= 5 + 2 * 2


@pytest.mark.parametrize(('precision', 'most'), [('bf16', 0.02), ('fp16', 0.005)])
def test_boxes_stay_float32_in_16_bits(tiny, detector, images, precision, most):
    halved = Detector(tiny.config, tiny.checkpoint, device='cpu', precision=precision)
    (wanted,), (found,) = detector(images[0]), halved(images[0])
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert not np.array_equal(found.scores, wanted.scores)
    np.testing.assert_allclose(found.scores[:3], wanted.scores[:3], atol=most)


def test_an_unknown_precision_is_refused_before_the_model_is_loaded(tiny):
    with pytest.raises(ValueError, match='precision must be one of fp32, bf16, fp16, got int8'):
        Detector(tiny.config, 'nowhere.pth', precision='int8')


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='PyTorch compiles for a CPU with g++')
def test_a_compiled_backbone_finds_the_same(tiny, detector, images):
    compiled = Detector(tiny.config, tiny.checkpoint, device='cpu', compile=True)
    for image in images[:2]:
        (wanted,), (found,) = detector(image), compiled(image)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
