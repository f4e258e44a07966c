import pytest
import torch
from mmcv.ops import bbox_overlaps
from mmcv.ops.bbox import _bbox_overlaps_cpu
from torchvision.ops import box_iou


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('offset', [0, 1])
def test_overlaps_are_those_of_mmcvs_python_form(make_boxes, device, mode, aligned, offset):
    a, b = make_boxes(30, device), make_boxes(30, device)
    ours = bbox_overlaps(a, b, mode, aligned, offset)
    torch.testing.assert_close(ours, _bbox_overlaps_cpu(a, b, mode, aligned, offset))


def test_iou_is_torchvisions(make_boxes, device):
    a, b = make_boxes(30, device), make_boxes(20, device)
    torch.testing.assert_close(bbox_overlaps(a, b), box_iou(a, b))


@pytest.mark.parametrize(('rows', 'columns'), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes_have_no_overlaps(make_boxes, rows, columns):
    assert bbox_overlaps(make_boxes(rows), make_boxes(columns)).shape == (rows, columns)
