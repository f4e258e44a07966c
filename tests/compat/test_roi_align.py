import pytest
import torch
from mmcv.ops import RoIAlign, roi_align
from torchvision.ops import roi_align as torchvision_roi_align


def feature_maps(device='cpu', dtype=torch.float64):
    return torch.randn(2, 3, 10, 12, device=device, dtype=dtype, requires_grad=True)


def regions(device='cpu', dtype=torch.float64):
    """RoIs inside, across the border, beyond it, and without area."""
    rows = [[0, 4, 4, 30, 25], [1, -8, -3, 20, 60], [1, 90, 90, 120, 99], [0, 7, 7, 7, 7], [1, 2.3, 1.1, 9.7, 33.4]]
    return torch.tensor(rows, device=device, dtype=dtype)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_values_and_gradients_are_torchvisions(device, aligned, sampling_ratio):
    maps, rois = feature_maps(device), regions(device)
    ours = roi_align(maps, rois, (3, 4), 0.25, sampling_ratio, 'avg', aligned)
    theirs = torchvision_roi_align(maps, rois, (3, 4), 0.25, sampling_ratio, aligned)
    seed = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y, maps, seed)[0] for y in (ours, theirs)))


def test_a_plane_gives_its_value_at_the_centre_of_each_bin():
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing='ij')
    rois = torch.tensor([[0, 8.0, 12, 32, 28]])  # 6 by 4 pixels of a map of stride 4
    pooled = roi_align((2 * x + 5 * y - 3)[None, None], rois, (2, 3), 0.25, 0, 'avg', True)
    centre_y, centre_x = torch.meshgrid(torch.tensor([4.0, 6.0]), torch.tensor([3.0, 5.0, 7.0]), indexing='ij')
    # The centre of a pixel lies half a pixel after its index.
    torch.testing.assert_close(pooled[0, 0], 2 * (centre_x - 0.5) + 5 * (centre_y - 0.5) - 3)


def test_gradcheck():
    rois = regions()
    assert torch.autograd.gradcheck(lambda maps: roi_align(maps, rois, 2, 0.25, 2, 'avg', True), feature_maps())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_16_bit_computes_in_float32(device, dtype):
    maps, rois = feature_maps(device, dtype), regions(device, dtype)
    wide = maps.detach().float().requires_grad_()
    low, high = (roi_align(m, r, 3, 0.25, 2, 'avg', True) for m, r in ((maps, rois), (wide, rois.float())))
    assert low.dtype == dtype
    torch.testing.assert_close(low, high.to(dtype), rtol=0, atol=0)
    grads = [torch.autograd.grad(y.sum(), m)[0] for y, m in ((low, maps), (high, wide))]
    torch.testing.assert_close(grads[0], grads[1].to(dtype), rtol=0, atol=0 if device == 'cpu' else 1e-2)


def test_no_rois_give_an_empty_result_and_a_zero_gradient(device):
    maps = feature_maps(device)
    pooled = roi_align(maps, regions(device)[:0], 7, 0.25, 0, 'avg', True)
    assert pooled.shape == (0, 3, 7, 7)
    assert torch.autograd.grad(pooled.sum(), maps)[0].count_nonzero() == 0


def test_a_roi_turned_inside_out_gives_zeros(device):
    rois = torch.tensor([[0, 20.0, 20, 10, 10]], device=device, dtype=torch.float64)
    assert roi_align(feature_maps(device), rois, 2, 0.25, 0, 'avg', True).count_nonzero() == 0


def test_max_pooling_raises_by_name():
    with pytest.raises(NotImplementedError, match="roi_align: pool_mode must be 'avg', got 'max'"):
        RoIAlign(2, pool_mode='max')(feature_maps(), regions())
