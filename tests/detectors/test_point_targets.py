"""What points learn, against plain loops over points and objects."""

import math

import pytest
import torch

pytest.importorskip('mmdet')
from swin_mm.detectors.corner_targets import class_weights, corner_radius, corner_targets
from swin_mm.detectors.point_targets import assign_adaptive, assign_nearest

SIZES = {8: (16, 20), 16: (8, 10), 32: (4, 5), 64: (2, 3)}
POINTS = torch.tensor([(x * s, y * s, s) for s, (h, w) in SIZES.items() for y in range(h) for x in range(w)]).double()
LEVELS = [h * w for h, w in SIZES.values()]


def objects(seed: int, number: int = 7) -> torch.Tensor:
    torch.manual_seed(seed)
    low, side = torch.rand(2, number, 2).double()
    return torch.cat([low * 90, low * 90 + 4 + side.pow(2) * 66], 1)


def overlap(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.mark.parametrize('seed', range(4))
def test_an_object_gets_the_nearest_point_of_its_level(seed):
    boxes, shift = objects(seed), torch.randn(7, 2).double()
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 + shift
    wanted = {}
    for g, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        level = int((math.log2((x2 - x1) / 4) + math.log2((y2 - y1) / 4)) / 2)
        stride = 2 ** min(max(level, 3), 6)
        cx, cy = centers[g].tolist()
        distance = {
            p: math.hypot((x - cx) / (x2 - x1), (y - cy) / (y2 - y1))
            for p, (x, y, s) in enumerate(POINTS.tolist())
            if s == stride
        }
        p = min(distance, key=distance.get)
        if p not in wanted or distance[p] < wanted[p][0]:
            wanted[p] = (distance[p], g)
    found = assign_nearest(POINTS, boxes, centers, 4)
    assert {p: g for p, g in enumerate(found.tolist()) if g >= 0} == {p: g for p, (_, g) in wanted.items()}


@pytest.mark.parametrize('seed', range(4))
def test_an_object_gets_the_candidates_that_stand_out(seed):
    boxes = objects(seed)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    jitter = torch.randn(len(POINTS), 4).double() / 3
    reach = torch.tensor([-2.0, -2.0, 2.0, 2.0]).double() + jitter
    candidates = POINTS[:, :2].repeat(1, 2) + reach * POINTS[:, 2:]
    best = {}
    for g, box in enumerate(boxes.tolist()):
        near, start = [], 0
        for count in LEVELS:
            middle = {
                p: [(candidates[p, i] + candidates[p, i + 2]).item() / 2 for i in (0, 1)]
                for p in range(start, start + count)
            }
            order = sorted(middle, key=lambda p: math.dist(middle[p], centers[g].tolist()))[:9]
            near += [order[i % len(order)] for i in range(9)]
            start += count
        overlaps = torch.tensor([overlap(candidates[p].tolist(), box) for p in near])
        for p, value in zip(near, overlaps.tolist(), strict=True):
            x, y = (candidates[p, :2] + candidates[p, 2:]).div(2).tolist()
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if value >= overlaps.mean() + overlaps.std() and inside and value > best.get(p, (-1,))[0]:
                best[p] = (value, g)
    found = assign_adaptive(candidates, LEVELS, boxes, centers, 9)
    assert {p: g for p, g in enumerate(found.tolist()) if g >= 0} == {p: g for p, (_, g) in best.items()}
    assert len(best) > len(boxes)


@pytest.mark.parametrize('seed', range(4))
def test_corners_are_learned_around_the_nearest_points(seed):
    boxes = 2 * objects(seed, 20)
    heat, offsets = torch.zeros(len(POINTS), 2).double(), torch.zeros(len(POINTS), 4).double()
    for i in (0, 1):
        for box in boxes.tolist():
            corner, radius = box[2 * i : 2 * i + 2], corner_radius(torch.tensor([box]).double(), 0.7).item()
            sigma = (2 * radius + 1) / 6
            for p, (x, y, _) in enumerate(POINTS.tolist()):
                distance = math.dist((x, y), corner)
                if distance < radius:
                    heat[p, i] = max(heat[p, i].item(), math.exp(-(distance**2) / (2 * sigma**2)))
        for box in boxes.tolist():
            corner = box[2 * i : 2 * i + 2]
            for stride in SIZES:
                p = min(
                    (q for q in range(len(POINTS)) if POINTS[q, 2] == stride),
                    key=lambda q: math.dist(POINTS[q, :2], corner),
                )
                heat[p, i] = 1
                offsets[p, 2 * i : 2 * i + 2] = (torch.tensor(corner, dtype=torch.float64) - POINTS[p, :2]) / stride
    found = corner_targets(POINTS, boxes, 0.7)
    torch.testing.assert_close(found.heat, heat)
    torch.testing.assert_close(found.offsets, offsets)
    assert ((heat > 0) & (heat < 1)).any()


def test_the_radius_is_how_far_corners_may_move():
    for box in objects(0).tolist():
        radius = corner_radius(torch.tensor([box]).double(), 0.7).item()
        x1, y1, x2, y2 = box
        worst = []
        for a in (-radius, radius):
            for b in (-radius, radius):
                worst.append(overlap(box, (x1 + a, y1 + a, x2 + b, y2 + b)))
        assert min(worst) == pytest.approx(0.7)


def test_a_cell_has_the_weight_of_the_smallest_box_of_its_class():
    boxes, labels = objects(1), torch.tensor([0, 1, 0, 1, 0, 1, 2])
    weights = class_weights(boxes, labels, (3, 20, 20), (12, 10), 8)
    for c in range(3):
        for y in range(20):
            for x in range(20):
                areas = [
                    (x2 - x1) * (y2 - y1)
                    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True)
                    if label == c and int(x1 / 8) <= x <= int(x2 / 8) and int(y1 / 8) <= y <= int(y2 / 8)
                ]
                want = 1 / min(areas) if areas and x < 10 and y < 12 else 0
                assert weights[c, y, x].item() == pytest.approx(want)


def test_without_objects_all_is_background():
    none = torch.zeros(0, 4).double()
    assert (assign_nearest(POINTS, none, none[:, :2], 4) == -1).all()
    assert (assign_adaptive(POINTS.repeat(1, 2)[:, :4], LEVELS, none, none[:, :2], 9) == -1).all()
    assert not corner_targets(POINTS, none, 0.7).heat.any()
    assert not class_weights(none, torch.zeros(0).long(), (3, 4, 4), (4, 4), 8).any()
