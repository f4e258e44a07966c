import time

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms, nms_match, soft_nms
from torchvision.ops import batched_nms as torchvision_batched_nms

from swin_mm.compat.mmcv_ops.soft_nms import softnms


def iou(a, b, offset=0):
    """Overlap of two boxes in float32, operation by operation."""
    one, offset = np.float32(1), np.float32(offset)
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0 * one)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0 * one)
    area, other = ((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b))
    return width * height / (area + other - width * height)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.5, 0.6, 1.0])
def test_kept_boxes_are_those_of_a_double_loop(make_boxes, device, threshold, offset):
    boxes, scores = make_boxes(60), torch.randperm(60) / 60
    rows, kept = boxes.numpy(), []
    for i in scores.argsort(descending=True).tolist():
        if all(iou(rows[j], rows[i], offset) <= np.float32(threshold) for j in kept):
            kept.append(i)
    dets, indices = nms(boxes.to(device), scores.to(device), threshold, offset=offset)
    assert indices.tolist() == kept
    assert torch.equal(dets.cpu(), torch.cat([boxes, scores[:, None]], 1)[kept])


def test_an_overlap_equal_to_the_threshold_keeps_the_box():
    # 3/5 and 0.6 are different numbers in float64, equal in float32.
    boxes = torch.tensor([[0.0, 0, 8, 1], [2, 0, 10, 1]])
    assert len(nms(boxes, torch.tensor([0.9, 0.8]), 0.6)[1]) == 2


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_compute_in_float32(make_boxes, device, dtype):
    boxes, scores = make_boxes(40, device).to(dtype), (torch.randperm(40, device=device) / 64).to(dtype)
    assert torch.equal(nms(boxes, scores, 0.4)[1], nms(boxes.float(), scores.float(), 0.4)[1])


def test_batched_nms_is_torchvisions(make_boxes):
    boxes, scores, labels = make_boxes(80), torch.randperm(80) / 80, torch.randint(0, 3, (80,))
    # Not 0.4, to which some overlaps are equal: torchvision compares a float32 with a float64.
    _, indices = batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.41))
    assert torch.equal(indices, torchvision_batched_nms(boxes, scores, labels, 0.41))


def test_nms_match_groups_every_box_under_the_one_that_suppressed_it(make_boxes):
    boxes, scores = make_boxes(60), torch.randperm(60) / 60
    groups = [group.tolist() for group in nms_match(torch.cat([boxes, scores[:, None]], 1), 0.5)]
    rows, left, expected = boxes.numpy(), scores.argsort(descending=True).tolist(), []
    while left:
        expected.append([left[0], *(i for i in left[1:] if iou(rows[left[0]], rows[i]) >= 0.5)])
        left = [i for i in left if i not in expected[-1]]
    assert groups == expected


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('ties', [False, True])
def test_soft_nms_is_the_loop_of_swaps(make_boxes, method, ties):
    boxes, scores = make_boxes(60), torch.randint(1, 6, (60,)) / 5 if ties else torch.rand(60)
    arguments = dict(iou_threshold=0.3, sigma=0.5, min_score=0.25)
    expected = soft_nms_by_swaps(boxes.tolist(), scores.tolist(), method, **arguments)
    dets, indices = soft_nms(boxes, scores, method=method, **arguments)
    assert 0 < len(expected) < 60
    assert indices.tolist() == [i for i, _ in expected]
    assert torch.equal(dets[:, :4], boxes[indices])
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))


@pytest.mark.parametrize(
    ('method', 'iou_threshold', 'offset'),
    [('naive', 0.3, 0), ('naive', 0.0, 0), ('linear', 0.3, 1), ('linear', 0.0, 0), ('gaussian', 0.3, 1)],
)
@pytest.mark.parametrize('classes', [1, 7])
def test_soft_nms_of_hundreds_of_boxes_is_the_loop_of_swaps(make_boxes, method, iou_threshold, offset, classes):
    """More than are looked at together, classes side by side, and tied scores."""
    scores = torch.randint(1, 1000, (600,)) / 1000
    boxes = make_boxes(600) * 8 + 300 * torch.randint(0, classes, (600, 1))
    arguments = dict(iou_threshold=iou_threshold, sigma=0.5, min_score=0.05)
    expected = soft_nms_by_swaps(boxes.tolist(), scores.tolist(), method, offset=offset, **arguments)
    dets, indices = soft_nms(boxes, scores, method=method, offset=offset, **arguments)
    assert indices.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))


def test_soft_nms_of_3000_boxes_takes_a_fraction_of_a_second():
    """It takes some 0.03 s; as a loop of PyTorch ops over whole arrays it took 0.8 s."""
    corners = torch.rand(3000, 2) * 1000
    boxes, scores = torch.cat([corners, corners + 8 + 200 * torch.rand(3000, 2)], 1), torch.rand(3000)
    start = time.process_time()
    dets, _ = soft_nms(boxes, scores, method='linear', iou_threshold=0.5, min_score=0.001)
    assert len(dets) > 1500
    assert time.process_time() - start < 0.25


def soft_nms_by_swaps(boxes, scores, method, iou_threshold, sigma, min_score, offset=0):
    """(index, score) of the kept boxes, found one box at a time: the last box takes the place of a dropped one."""
    queue = [(i, np.float32(score)) for i, score in enumerate(scores)]
    boxes = np.float32(boxes)
    start = 0
    while start < len(queue):
        best = max(range(start, len(queue)), key=lambda k: queue[k][1])  # the first of equals
        queue[start], queue[best] = queue[best], queue[start]
        k = start + 1
        while k < len(queue):
            overlap = iou(boxes[queue[start][0]], boxes[queue[k][0]], offset)
            soft = np.exp(-(overlap**2) / np.float32(sigma))
            hard = {'naive': 0, 'linear': 1 - overlap}.get(method) if overlap >= np.float32(iou_threshold) else 1
            score = queue[k][1] * np.float32(soft if method == 'gaussian' else hard)
            if score < np.float32(min_score):
                queue[k] = queue[-1]
                del queue[-1]
            else:
                queue[k] = queue[k][0], score
                k += 1
        start += 1
    return queue


def test_soft_nms_puts_a_box_without_a_score_last():
    # Two boxes without area overlap by 0 / 0.
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 4, 4]])
    dets = torch.empty(3, 5)
    indices = softnms(boxes, torch.tensor([0.9, 0.8, 0.7]), dets, 0.3, 0.5, 0.01, method=2, offset=0)
    assert indices.tolist() == [0, 2, 1]
    assert dets[:, 4].isnan().tolist() == [False, False, True]


@pytest.mark.parametrize('op', [nms, soft_nms])
def test_no_boxes_give_no_boxes(device, op):
    dets, indices = op(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert dets.shape == (0, 5)
    assert indices.shape == (0,)
    assert indices.dtype == torch.int64


def test_nms_match_of_no_boxes_is_no_group():
    assert nms_match(torch.zeros(0, 5), 0.5) == []
