"""The head that predicts is asked for its classes, not guessed."""

import numpy as np
import pytest
from torch import nn

from swin_mm.inference import Detector, EncodedImage, NamedImage
from swin_mm.inference.loading import head_that_predicts


def head(num_classes: int) -> nn.Module:
    module = nn.Module()
    module.num_classes = num_classes
    return module


def model(**parts) -> nn.Module:
    module = nn.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


@pytest.mark.parametrize(
    ('net', 'classes'),
    [
        (model(bbox_head=head(7)), 7),
        (model(rpn_head=head(1), roi_head=model(bbox_head=head(2), mask_head=head(80))), 2),
        (model(roi_head=model(bbox_head=nn.ModuleList([head(3), head(3), head(5)]))), 5),
        (model(panoptic_head=head(80), panoptic_fusion_head=head(133)), 133),
        (model(roi_head=model(bbox_head=head(80)), semantic_head=head(54), panoptic_fusion_head=head(133)), 133),
        (model(decode_head=head(4), auxiliary_head=head(150)), 4),
        (model(decode_head=nn.ModuleList([head(6), head(19)])), 19),
        (model(something=head(3)), None),
    ],
)
def test_classes_are_those_of_the_head_that_predicts(net, classes):
    assert getattr(head_that_predicts(net), 'num_classes', None) == classes


def test_pixels_may_have_a_name(tiny):
    """A frame of a video, or a tile: errors call it by its name."""
    detector = Detector(tiny.config, tiny.checkpoint, device='cpu')
    pixels = np.zeros((64, 64, 3), np.uint8)
    frame, wrong = detector.stream([NamedImage('video.mp4, frame 7', pixels), NamedImage('frame 8', pixels[..., 0])])
    assert frame[0] is pixels
    assert str(wrong).startswith('frame 8 must be a uint8 array (height, width, 3) in BGR, got uint8 (64, 64)')
    assert len(detector(NamedImage('one', pixels))) == 1
    assert detector.prepare(pixels, 3).name == 'images[3]'


def test_bytes_of_a_file_have_a_name(tiny):
    detector = Detector(tiny.config, tiny.checkpoint, device='cpu', max_pixels=12_000)
    path = tiny.data / 'images/3.jpg'
    (pixels, _), wrong, large = detector.stream(
        [
            EncodedImage('s3://bucket/3.jpg', path.read_bytes()),
            EncodedImage('s3://bucket/1.jpg', b'<html>'),
            EncodedImage('s3://bucket/2.jpg', (tiny.data / 'images/2.jpg').read_bytes()),
        ]
    )
    np.testing.assert_array_equal(pixels, detector.read(path))
    assert str(wrong).startswith('s3://bucket/1.jpg: not an image that OpenCV can decode')
    assert str(large).startswith('s3://bucket/2.jpg: must have at most 12000 pixels, got 96x128, which is 12288')
