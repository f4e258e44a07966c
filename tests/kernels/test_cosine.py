"""Queries and keys of length one: values, gradients, and what is kept for the backward pass."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_mm.kernels import cosine, cpu
from swin_mm.kernels.cosine import cosine_qkv, make_cosine_


def make_inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """``qkv``, ``bias`` and ``scale`` of two heads; the bias has no part for keys, as V2's."""
    qkv, bias = torch.randn(2, 3, 4, 3, 2, 5, dtype=dtype), torch.randn(3, 2, 5, dtype=dtype)
    bias[1] = 0
    return [x.requires_grad_() for x in (qkv, bias, 1 + 9 * torch.rand(2, 1, dtype=dtype))]


def by_hand(qkv: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
    q, k, v = (qkv if bias is None else qkv + bias).unbind(-3)
    return torch.stack([F.normalize(q, dim=-1) * scale, F.normalize(k, dim=-1), v], dim=-3)


@pytest.mark.parametrize('traced', [True, False])
@pytest.mark.parametrize('biased', [True, False])
def test_values_and_gradients(biased, traced, monkeypatch):
    monkeypatch.setattr(cosine, 'is_traced', lambda: traced)
    inputs, results = make_inputs(), []
    wrt = inputs if biased else [inputs[0], inputs[2]]
    for function in (cosine_qkv, by_hand):
        y = function(inputs[0], inputs[1] if biased else None, inputs[2])
        results.append([y, *torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), wrt)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(cosine_qkv, (inputs[0], inputs[1] if biased else None, inputs[2]))


def test_lengths_are_one_and_scale():
    qkv, bias, scale = make_inputs()
    q, k, v = cosine_qkv(qkv, bias, scale).unbind(-3)
    torch.testing.assert_close(q.norm(dim=-1, keepdim=True), scale.expand(2, 3, 4, 2, 1))
    torch.testing.assert_close(k.norm(dim=-1), torch.ones(2, 3, 4, 2, dtype=torch.float64))
    torch.testing.assert_close(v, (qkv + bias)[..., 2, :, :])


def test_a_vector_of_zeros_stays_zero_and_has_no_nan():
    qkv, _, scale = make_inputs()
    zero = torch.zeros_like(qkv).requires_grad_()
    y = cosine_qkv(zero, None, scale)
    assert not y.any()
    (gradient,) = torch.autograd.grad(y[..., 2, :, :].sum(), zero)
    assert torch.equal(gradient[..., 2, :, :], torch.ones_like(y[..., 2, :, :]))
    assert not gradient[..., :2, :, :].any()


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 5e-7), (torch.bfloat16, 8e-3)], ids=str)
@torch.no_grad()
def test_in_place_and_in_every_dtype(dtype, tolerance):
    qkv, bias, scale = make_inputs()
    want, given = by_hand(qkv, bias, scale), (qkv + bias).to(dtype)
    got = make_cosine_(given, scale.float())
    assert got.data_ptr() == given.data_ptr()
    for result in (got, cosine_qkv(qkv.to(dtype), bias, scale.float())):
        assert result.dtype == dtype
        assert (result.double() - want).abs().max() < tolerance * want.abs().max()


def test_the_kernel_after_it_keeps_the_same_map():
    """One map and the lengths, not the queries and keys before and after and in between."""
    qkv, bias, scale = make_inputs(torch.float32)
    storages: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = cpu.window_attention(cosine_qkv(qkv, bias, scale), torch.zeros(2, 4, 4), None, (2, 2), (0, 0), 1.0)
    assert y.requires_grad
    assert sum(storages.values()) < 1.3 * qkv.untyped_storage().nbytes()
