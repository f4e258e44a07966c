import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import deform_conv2d, modulated_deform_conv2d

from swin_mm.compat.mmcv_ops.deform_conv import _outside

# stride, padding, dilation, groups, groups of offsets
GEOMETRIES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 2), (1, 2, 2, 1, 2), ((1, 2), (2, 0), (2, 1), 2, 1)]


def inputs(geometry, device='cpu', dtype=torch.float64, batch=2, kernel=(3, 3)):
    """Input, offset (displacements of up to a pixel), mask, weight and bias."""
    stride, padding, dilation, groups, offset_groups = geometry
    options = dict(device=device, dtype=dtype)
    x = torch.randn(batch, 4, 6, 7, **options)
    weight, bias = torch.randn(4, 4 // groups, *kernel, **options), torch.randn(4, **options)
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[2:]
    taps = offset_groups * kernel[0] * kernel[1]
    offset, mask = torch.rand(batch, 2 * taps, *out, **options) * 2 - 1, torch.rand(batch, taps, *out, **options)
    return [tensor.requires_grad_() for tensor in (x, offset, mask, weight, bias)]


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_zero_offsets_make_it_a_convolution(device, geometry):
    x, offset, mask, weight, bias = inputs(geometry, device)
    offset = torch.zeros_like(offset)
    expected = F.conv2d(x, weight, bias, *geometry[:4])
    seed = torch.randn_like(expected)
    expected_grads = torch.autograd.grad(expected, (x, weight, bias), seed)
    v2 = modulated_deform_conv2d(x, offset, torch.ones_like(mask), weight, bias, *geometry)
    v1 = deform_conv2d(x, offset, weight, *geometry) + bias[:, None, None]
    for output in (v1, v2):
        torch.testing.assert_close(output, expected)
        for ours, theirs in zip(torch.autograd.grad(output, (x, weight, bias), seed), expected_grads, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('geometry', GEOMETRIES[1::2])
def test_gradcheck(geometry):
    x, offset, mask, weight, bias = inputs(geometry, batch=1)
    assert torch.autograd.gradcheck(lambda *t: modulated_deform_conv2d(*t, *geometry), (x, offset, mask, weight, bias))
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d(*t, *geometry), (x, offset, weight))


def test_without_a_bias():
    x, offset, mask, weight, bias = inputs(GEOMETRIES[0])
    without = modulated_deform_conv2d(x, offset, mask, weight, None, *GEOMETRIES[0])
    with_bias = modulated_deform_conv2d(x, offset, mask, weight, bias, *GEOMETRIES[0])
    torch.testing.assert_close(without + bias[:, None, None], with_bias)
    assert torch.autograd.grad(without.sum(), weight)[0].count_nonzero() > 0


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_points_outside_are_those_of_a_loop(geometry):
    _, offset, _, weight, _ = inputs(geometry, kernel=(3, 2))
    offset = (offset * 2).round()  # many points fall exactly on -1 and on the size
    stride, padding, dilation = (pair if isinstance(pair, tuple) else (pair, pair) for pair in geometry[:3])
    outside = _outside(offset, (6, 7), weight.shape[2:], [*stride, *padding, *dilation, *geometry[3:]])
    size = (6, 7)
    for batch, channel, row, column in torch.cartesian_prod(*map(torch.arange, offset.shape)).tolist():
        tap = channel // 2 % 6
        places, starts, dys = (row, column), divmod(tap, 2), offset[batch, channel - channel % 2 :, row, column]
        points = [places[a] * stride[a] - padding[a] + starts[a] * dilation[a] + dys[a] for a in (0, 1)]
        expected = any(p <= -1 or p >= size[a] for a, p in enumerate(points))
        assert outside[batch, channel, row, column] == expected


@pytest.mark.parametrize('modulated', [False, True])
def test_at_zero_offset_the_padding_taps_have_no_offset_gradient(device, modulated):
    x, offset, mask, weight, bias = inputs(GEOMETRIES[0], device)
    offset = torch.zeros_like(offset).requires_grad_()
    if modulated:
        output = modulated_deform_conv2d(x, offset, mask, weight, bias, *GEOMETRIES[0])
    else:
        output = deform_conv2d(x, offset, weight, *GEOMETRIES[0])
    grad = torch.autograd.grad(output.sum(), offset)[0].view(2, 3, 3, 2, 6, 7)
    assert grad[:, 0, :, :, 0].count_nonzero() == 0
    assert grad[:, 2, :, :, -1].count_nonzero() == 0
    assert grad[:, :, 0, :, :, 0].count_nonzero() == 0
    assert grad[:, :, 2, :, :, -1].count_nonzero() == 0
    assert grad[:, :, :, :, 1:-1, 1:-1].ne(0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_16_bit_computes_in_float32(device, dtype):
    tensors = inputs(GEOMETRIES[1], device, dtype)
    wide = [tensor.detach().float().requires_grad_() for tensor in tensors]
    low, high = (modulated_deform_conv2d(*t, *GEOMETRIES[1]) for t in (tensors, wide))
    assert low.dtype == dtype
    torch.testing.assert_close(low, high.to(dtype), rtol=0, atol=0)
    pairs = zip(torch.autograd.grad(low.sum(), tensors), torch.autograd.grad(high.sum(), wide), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b.to(dtype), rtol=0, atol=0 if device == 'cpu' else 1e-2)


def test_offsets_and_masks_of_a_larger_map_are_read_as_they_lie_in_memory():
    """As by mmcv's loop over images, whose kernels know the size of the output alone; mmdet's DyHead does this."""
    x, offset, mask, weight, bias = inputs(GEOMETRIES[0])
    larger = [torch.randn(2, t.shape[1], 12, 14, dtype=t.dtype, requires_grad=True) for t in (offset, mask)]
    same = [
        t.detach().flatten(1)[:, : s[0].numel()].reshape(s.shape) for t, s in zip(larger, (offset, mask), strict=True)
    ]
    same = [t.requires_grad_() for t in same]
    got, want = (modulated_deform_conv2d(x, *pair, weight, bias, *GEOMETRIES[0]) for pair in (larger, same))
    assert torch.equal(got, want)
    grads = zip(torch.autograd.grad(got.sum(), larger), torch.autograd.grad(want.sum(), same), strict=True)
    for grad, first in grads:
        count = first[0].numel()
        assert torch.equal(grad.flatten(1)[:, :count], first.flatten(1))
        assert not grad.flatten(1)[:, count:].any()
