import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch

SHAPES = torch.tensor([[6, 8], [3, 4], [1, 2]])
STARTS = torch.tensor([0, 48, 60])


def inputs(device='cpu', dtype=torch.float64, batch=2, queries=5, heads=2, head_dim=3, points=4):
    """Value, locations (a quarter of them outside) and weights."""
    options = dict(device=device, dtype=dtype)
    value = torch.randn(batch, 62, heads, head_dim, **options)
    locations = torch.rand(batch, queries, heads, len(SHAPES), points, 2, **options) * 1.3 - 0.15
    weights = torch.rand(batch, queries, heads, len(SHAPES), points, **options)
    return [tensor.requires_grad_() for tensor in (value, locations, weights)]


def attend(value, locations, weights):
    shapes, starts = SHAPES.to(value.device), STARTS.to(value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


def test_values_and_gradients_are_those_of_mmcvs_python_form(device):
    tensors = inputs(device)
    ours, theirs = attend(*tensors), multi_scale_deformable_attn_pytorch(tensors[0], SHAPES.to(device), *tensors[1:])
    seed = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(*(torch.autograd.grad(y, tensors, seed) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    assert torch.autograd.gradcheck(attend, inputs(batch=1, queries=2, points=2))


@torch.no_grad()
def test_one_point_on_the_centre_of_a_pixel_takes_its_value():
    value, _, _ = inputs(queries=1, points=1)
    row, column, level = 2, 5, 0
    locations = torch.tensor([(column + 0.5) / 8, (row + 0.5) / 6], dtype=torch.float64).expand(2, 1, 2, 3, 1, 2)
    weights = torch.zeros(2, 1, 2, 3, 1, dtype=torch.float64)
    weights[:, :, :, level] = 1
    torch.testing.assert_close(attend(value, locations, weights)[:, 0], value[:, row * 8 + column].flatten(1))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_16_bit_computes_in_float32(device, dtype):
    tensors = inputs(device, dtype)
    wide = [tensor.detach().float().requires_grad_() for tensor in tensors]
    low, high = attend(*tensors), attend(*wide)
    assert low.dtype == dtype
    torch.testing.assert_close(low, high.to(dtype), rtol=0, atol=0)
    pairs = zip(torch.autograd.grad(low.sum(), tensors), torch.autograd.grad(high.sum(), wide), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b.to(dtype), rtol=0, atol=0 if device == 'cpu' else 1e-2)


def test_no_queries_give_an_empty_result(device):
    tensors = inputs(device, queries=0)
    output = attend(*tensors)
    assert output.shape == (2, 0, 6)
    assert torch.autograd.grad(output.sum(), tensors[0])[0].count_nonzero() == 0
