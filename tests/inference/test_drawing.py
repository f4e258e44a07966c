"""What is drawn, and when it is refused."""

import functools

import numpy as np
import pytest

from swin_mm.errors import PreflightError
from swin_mm.inference.drawing import check_display, class_colours, draw_objects, draw_regions

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize('backend', ['agg', 'Agg', 'TkAgg'])
def test_showing_needs_a_display(monkeypatch, backend):
    monkeypatch.setattr('matplotlib.pyplot.get_backend', functools.partial(str, backend))
    if backend == 'TkAgg':
        check_display()
    else:
        with pytest.raises(PreflightError, match='--show needs a display'):
            check_display()


def test_colours_are_those_of_mmdet():
    from mmdet.visualization.palette import get_palette

    for name in ('coco', 'citys', 'voc', 'random', None, [(1, 2, 3), [4, 5, 6], (7, 8, 9)]):
        np.testing.assert_array_equal(class_colours(name, 3), np.array(get_palette(name, 3))[:3])


@pytest.mark.parametrize(('palette', 'given'), [('voc', 'voc'), ([RED] * 2, 'a list of 2')])
def test_a_palette_with_too_few_colours_is_refused(palette, given):
    with pytest.raises(ValueError, match=f'palette must have a colour for each of 30 classes, got {given}'):
        class_colours(palette, 30)


def blank(height=120, width=160):
    return np.zeros((height, width, 3), np.uint8)


def test_a_box_has_its_colour_at_its_sides_and_its_text_inside_the_image():
    boxes = np.array([[40, 30, 120, 100], [150, 110, 500, np.inf]], np.float32)
    drawn = draw_objects(blank(), boxes, None, ['a: 90.0', 'lampadário 図: 30.0'], np.array([RED, BLUE], np.uint8))
    for y, x in ((100, 80), (70, 40), (70, 120)):
        np.testing.assert_array_equal(drawn[y, x], RED)
    assert not drawn[60:95, 60:110].any()
    label = (drawn == BLUE).all(2)
    assert label[:, :150].sum() > 100  # it was moved to the left


def test_the_best_object_is_on_top():
    masks = np.ones((2, 120, 160), bool)
    drawn = draw_objects(blank(), np.zeros((2, 4)), masks, ['', ''], np.array([RED, BLUE], np.uint8), opacity=1)
    np.testing.assert_array_equal(drawn[60, 80], RED)


@pytest.mark.parametrize('count', [0, 1])
def test_nothing_to_draw_is_drawn(count):
    masks = np.zeros((count, 120, 160), bool)
    drawn = draw_objects(blank(), np.zeros((count, 4)), masks, [''] * count, np.array([BLUE] * count, np.uint8))
    assert drawn.any() == bool(count)
    assert not drawn[20:, 20:].any()


def test_regions_have_their_colours_and_a_name_in_the_largest_piece():
    regions = np.full((120, 160), -1)
    regions[:, 100:], regions[:4, :4] = 1, 1
    drawn = draw_regions(blank(), regions, ['sky', 'sea'], np.array([RED, BLUE], np.uint8), opacity=1)
    assert not drawn[10:, :90].any()
    np.testing.assert_array_equal(drawn[2, 2], BLUE)
    text = (drawn != BLUE).any(2) & (regions == 1)
    assert text.any()
    assert np.abs(np.argwhere(text).mean(0) - [60, 130]).max() < 25


def test_text_can_be_read_on_any_colour():
    boxes = np.array([[10.0, 10, 100, 100]])
    for colour, ink in (((250, 250, 250), 0), ((0, 0, 90), 255)):
        drawn = draw_objects(blank() + 128, boxes, None, ['LLLLLL'], np.array([colour], np.uint8))
        assert (drawn[10:30, 10:100] == ink).all(2).sum() > 10
