"""Huge images in tiles: where tiles lie, what is merged across their edges, and what is blended."""

from itertools import pairwise

import numpy as np
import pytest

from swin_mm.inference.tiles.grid import tile_rows
from swin_mm.inference.tiles.merging import Piece, merge
from swin_mm.inference.tiles.objects import Objects
from swin_mm.inference.tiles.pixels import blend


@pytest.mark.parametrize('size', [(64, 64), (65, 300), (1000, 777), (20, 500)])
@pytest.mark.parametrize('overlap', [0, 0.2, 0.5])
def test_tiles_cover_an_image_and_overlap(size, overlap):
    rows = tile_rows(*size, 64, overlap)
    seen = np.zeros(size, int)
    for row in rows:
        for tile in row:
            assert tile.bottom - tile.top == min(64, size[0])
            assert tile.right - tile.left == min(64, size[1])
            seen[tile.top : tile.bottom, tile.left : tile.right] += 1
        for one, other in pairwise(row):
            assert one.right - other.left >= overlap * 64 - 1
    assert seen.min() == 1


@pytest.mark.parametrize(('tile', 'overlap'), [(31, 0.2), (64, 0.6), (64, -0.1)])
def test_tiles_that_make_no_sense_are_refused(tile, overlap):
    with pytest.raises(ValueError, match='must be'):
        tile_rows(100, 100, tile, overlap)


def scene(size=(300, 420), count=40, sides=(6, 24), seed=0):
    """Disjoint discs and squares of two classes: a map of their numbers, 0 for none, and their labels."""
    random, numbers, labels = np.random.default_rng(seed), np.zeros(size, int), []
    y, x = np.mgrid[: size[0], : size[1]]
    while len(labels) < count:
        side, label = random.integers(*sides), int(random.integers(2))
        top, left = (int(random.integers(0, length - side)) for length in size)
        place = (slice(max(top - 2, 0), top + side + 2), slice(max(left - 2, 0), left + side + 2))
        if numbers[place].any():
            continue
        inside = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
        if label:
            inside &= (y - top - side / 2 + 0.5) ** 2 + (x - left - side / 2 + 0.5) ** 2 <= side**2 / 4
        labels.append(label)
        numbers[inside] = len(labels)
    return numbers, labels


def box_of(mask):
    ys, xs = np.nonzero(mask)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], float)


def seen_in(numbers, labels, rows, masks, random):
    """What a detector that sees each tile alone would find: all of an object that the tile shows, roughly."""
    for tile in (tile for row in rows for tile in row):
        part = numbers[tile.top : tile.bottom, tile.left : tile.right]
        for number in np.unique(part[part > 0]):
            mask = part == number
            box = box_of(mask) + random.uniform(-0.4, 0.4, 4)
            box = box.clip(0, [tile.right - tile.left, tile.bottom - tile.top] * 2)
            box += [tile.left, tile.top] * 2
            ys, xs = np.nonzero(mask)
            small = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            corner = (tile.left + int(xs.min()), tile.top + int(ys.min()))
            yield Piece(tile, box, random.uniform(0.5, 1), labels[number - 1], corner, small if masks else None)


@pytest.mark.parametrize('masks', [True, False])
@pytest.mark.parametrize(('tile', 'overlap'), [(64, 0.45), (64, 0.2), (48, 0.5), (160, 0.2)])
@pytest.mark.parametrize('seed', range(3))
def test_each_object_is_found_once_and_whole(masks, tile, overlap, seed):
    numbers, labels = scene(seed=seed)
    rows = tile_rows(*numbers.shape, tile, overlap)
    pieces = list(seen_in(numbers, labels, rows, masks, np.random.default_rng(seed)))
    kept = merge(pieces, rows)
    assert [piece.score for piece in kept] == sorted((piece.score for piece in kept), reverse=True)
    boxes = [box_of(numbers == number) for number in range(1, len(labels) + 1)]
    assert len(kept) == len(boxes)
    for piece in kept:
        (match,) = [i for i, box in enumerate(boxes) if np.abs(box - piece.box).max() < 1]
        assert piece.label == labels[match]
        if masks:
            whole = np.zeros(numbers.shape, bool)
            (x, y), (height, width) = piece.corner, piece.mask.shape
            whole[y : y + height, x : x + width] = piece.mask
            np.testing.assert_array_equal(whole, numbers == match + 1)


@pytest.mark.parametrize('masks', [True, False])
def test_an_object_that_no_tile_holds_is_joined(masks):
    numbers = np.zeros((200, 400), int)
    numbers[80:110, 30:370] = 1
    rows = tile_rows(200, 400, 100, 0.3)
    pieces = list(seen_in(numbers, [0], rows, masks, np.random.default_rng(0)))
    assert len(pieces) > 4
    (whole,) = merge(pieces, rows)
    np.testing.assert_allclose(whole.box, [30, 80, 370, 110], atol=0.5)
    assert whole.score == max(piece.score for piece in pieces)
    if masks:
        assert whole.mask.shape == (30, 340)
        assert whole.mask.all()


def test_neighbours_that_touch_stay_two():
    """Each is whole in the tile of the other too, side by side within what both tiles see."""
    numbers = np.zeros((100, 160), int)
    numbers[40:60, 62:80], numbers[40:60, 80:97] = 1, 2
    rows = tile_rows(100, 160, 100, 0.4)
    kept = merge(list(seen_in(numbers, [0, 0], rows, True, np.random.default_rng(0))), rows)
    assert sorted(round(piece.box[0]) for piece in kept) == [62, 80]


def test_what_two_tiles_see_in_different_ways_stands_once():
    """The masks have little in common, the boxes nearly everything; and one tile sees two in the place of one."""
    rows = tile_rows(100, 160, 100, 0.4)
    ((left, right),) = rows
    upper, lower = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    upper[:12], lower[8:] = True, True
    boxes = [np.array([70.0, 40, 90, 60]), np.array([70.0, 41, 90, 61]), np.array([70.0, 35, 90, 55])]
    seen = zip((left, right, right), boxes, (0.9, 0.8, 0.7), (upper, lower, lower), strict=True)
    pieces = [Piece(tile, box, score, 0, (70, 40), mask) for tile, box, score, mask in seen]
    (kept,) = merge(pieces, rows)
    assert kept.score == 0.9
    others = [Piece(piece.tile, piece.box, piece.score, i, piece.corner, piece.mask) for i, piece in enumerate(pieces)]
    assert len(merge(others, rows)) == 3, 'of other classes'


def test_masks_are_run_lengths_of_the_whole_image():
    from pycocotools import mask as coco

    random = np.random.default_rng(0)
    masks = [random.random((h, w)) < 0.5 for h, w in ((7, 5), (1, 1), (30, 40), (2, 2))]
    masks[3][:] = True  # in the lower right corner of its box, at the lower edge of the image
    corners = np.array([(3, 4), (0, 0), (0, 0), (20, 28)])
    found = Objects((30, 40), np.zeros((4, 4)), np.ones(4), np.zeros(4, int), ['a'] * 4, masks, corners)
    for code, mask, (x, y) in zip(found.run_lengths(), masks, corners, strict=True):
        whole = np.zeros((30, 40), np.uint8)
        whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        expected = coco.encode(np.asfortranarray(whole))
        assert (code['size'], code['counts']) == ([30, 40], expected['counts'].decode())


@pytest.mark.parametrize(('size', 'tile', 'overlap'), [((90, 200), 64, 0.25), ((65, 65), 64, 0.5), ((50, 40), 64, 0.2)])
def test_blended_tiles_of_one_map_are_that_map(size, tile, overlap):
    """What every tile agrees on is what comes out, wherever it lies."""
    logits = np.random.default_rng(0).normal(size=(5, *size)).astype(np.float32)
    rows = tile_rows(*size, tile, overlap)
    crops = (logits[:, place.top : place.bottom, place.left : place.right] for row in rows for place in row)
    summed = []
    bands = list(blend(rows, crops, lambda one: summed.append(one) or one.argmax(axis=0)))
    labels = np.concatenate(bands)
    assert labels.shape == size
    differing = labels != logits.argmax(axis=0)
    best = np.sort(logits, axis=0)
    assert not (differing & (best[-1] - best[-2] > 0.01)).any(), 'only what float16 cannot tell apart'


def test_a_step_between_tiles_becomes_a_ramp():
    """Two tiles that disagree: the sum of the weights is one, and goes from one tile's to the other's evenly."""
    rows = tile_rows(64, 108, 64, 0.3)
    ((one, other),) = rows
    crops = iter([np.full((1, 64, 64), 0.0), np.full((1, 64, 64), 1.0)])
    (band,) = blend(rows, crops, lambda logits: logits[0])
    ramp = np.clip((np.arange(108) + 0.5 - other.left) / (one.right - other.left), 0, 1)
    np.testing.assert_allclose(band, np.broadcast_to(ramp, (64, 108)), atol=1e-3)
