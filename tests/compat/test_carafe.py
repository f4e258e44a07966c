import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import carafe

from swin_mm.compat.mmcv_ops.carafe import carafe_naive_backward, carafe_naive_forward


def inputs(kernel, groups, scale, device='cpu'):
    options = dict(device=device, dtype=torch.float64, requires_grad=True)
    features = torch.randn(2, 4, 3, 5, **options)
    return features, torch.randn(2, groups * kernel**2, 3 * scale, 5 * scale, **options)


@pytest.mark.parametrize(('kernel', 'groups', 'scale'), [(3, 1, 2), (5, 2, 2), (1, 4, 3), (3, 1, 1)])
def test_output_is_a_weighted_sum_of_unfolded_neighbourhoods(device, kernel, groups, scale):
    features, masks = inputs(kernel, groups, scale, device)
    patches = F.unfold(features, kernel, padding=kernel // 2).view(2, 4 * kernel**2, 3, 5)
    patches = F.interpolate(patches, scale_factor=scale).view(2, groups, -1, kernel**2, *masks.shape[2:])
    expected = (patches * masks.view(2, groups, 1, kernel**2, *masks.shape[2:])).sum(3).flatten(1, 2)
    output = carafe(features, masks, kernel, groups, scale)
    torch.testing.assert_close(output, expected)
    seed = torch.randn_like(output)
    grads = [torch.autograd.grad(y, (features, masks), seed) for y in (output, expected)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_16_bit_computes_in_float32(device, dtype):
    tensors = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs(5, 2, 2, device)]
    wide = [tensor.detach().float().requires_grad_() for tensor in tensors]
    low, high = carafe(*tensors, 5, 2, 2), carafe(*wide, 5, 2, 2)
    assert torch.equal(low, high.to(dtype))
    pairs = zip(torch.autograd.grad(low.sum(), tensors), torch.autograd.grad(high.sum(), wide), strict=True)
    assert all(torch.equal(a, b.to(dtype)) for a, b in pairs)


def test_one_tap_of_weight_one_is_nearest_upsampling():
    features, masks = inputs(1, 1, 2)
    assert torch.equal(carafe(features, torch.ones_like(masks), 1, 1, 2), F.interpolate(features, scale_factor=2))


def test_the_naive_form_is_the_same():
    size = dict(kernel_size=3, group_size=2, scale_factor=2)
    features, masks = inputs(**dict(zip(('kernel', 'groups', 'scale'), size.values(), strict=True)))
    expected = carafe(features, masks, *size.values())
    output, grads = torch.empty_like(expected), (torch.empty_like(features), torch.empty_like(masks))
    carafe_naive_forward(features, masks, output, **size)
    carafe_naive_backward(torch.ones_like(output), features, masks, *grads, **size)
    assert torch.equal(output, expected)
    assert all(map(torch.equal, grads, torch.autograd.grad(expected.sum(), (features, masks))))
