"""Blocks and patch merging of V2 in their fast forms give what their layers give, one after the other."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from swin_mm.backbone.arguments_v2 import ArgumentsV2
from swin_mm.backbone.attention.window_v2 import WindowAttentionV2
from swin_mm.backbone.swin_v2 import PatchMergingV2, SwinBlockV2
from swin_mm.kernels import cpu, cpu_block

SIZES = [(16, 16), (20, 9), (3, 5), (1, 1), (29, 23)]


def make_block(shift=(2, 2), drop_path=0.0, **arguments) -> SwinBlockV2:
    options = ArgumentsV2(**{'window_size': 4, **arguments}).block_options(0)
    block = SwinBlockV2(16, 2, shift, drop_path, options)
    assert type(block.attn) is WindowAttentionV2
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return block.eval()


def two_lines(block: SwinBlockV2, x: Tensor) -> Tensor:
    """Section 3.2 of the paper, layer by layer."""
    x = x + block.drop_path(block.norm1(block.attn(x)))
    return x + block.drop_path(block.norm2(block.mlp(x)))


def is_fused(block: SwinBlockV2, x: Tensor) -> bool:
    return (layers := block._layers(x)) is not None and cpu_block.can_fuse(layers, x)


@pytest.mark.parametrize('strip', [8, 60, 10_000])
@pytest.mark.parametrize(
    ('size', 'shift', 'options'),
    [
        *((size, shift, {}) for size, shift in itertools.product(SIZES, [(0, 0), (2, 2), (0, 1)])),
        ((20, 9), (2, 2), dict(qkv_bias=False)),
        ((13, 20), (2, 1), dict(window_size=(4, 6), pretrained_window_sizes=3, mlp_ratio=1.5)),
    ],
)
@torch.no_grad()
def test_fused_on_the_cpu(size, shift, options, strip, monkeypatch):
    monkeypatch.setattr(cpu, 'STRIP', 4 * strip)
    block, x = make_block(shift, **options), torch.randn(3, *size, 16)
    before = x.clone()
    assert is_fused(block, x)
    torch.testing.assert_close(block(x), two_lines(block, x), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


@torch.no_grad()
def test_a_cancelled_shift_is_cancelled_in_the_fused_form_too():
    block, x = make_block(), torch.randn(1, 4, 9, 16)
    block.attn.cancel_shift = True
    assert is_fused(block, x)
    torch.testing.assert_close(block(x), two_lines(block, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('weights', [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_fused_in_bfloat16_is_as_near_to_float32_as_by_layers(weights):
    block, x = make_block(), torch.randn(2, 20, 9, 16)
    exact = two_lines(block, x)
    block, x = block.to(weights), x.bfloat16()
    with torch.autocast('cpu', torch.bfloat16, enabled=weights == torch.float32):
        assert is_fused(block, x)
        got, want = block(x), two_lines(block, x)
    assert got.dtype == want.dtype == torch.bfloat16
    assert (got - exact).std() < 1.1 * (want - exact).std()


@torch.no_grad()
def test_what_autocast_kept_does_not_serve_without_it():
    block, x = make_block(), torch.randn(1, 9, 9, 16)
    with torch.autocast('cpu', torch.bfloat16):
        block(x)
    torch.testing.assert_close(block(x), two_lines(block, x), rtol=1e-5, atol=1e-5)


NAMES = ['cpb_mlp.0.weight', 'cpb_mlp.0.bias', 'cpb_mlp.2.weight', 'logit_scale', 'q_bias', 'v_bias', 'qkv.weight']


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_changed_weights_count_at_once(name):
    """Through ``.data``, which no version tells of."""
    block, x = make_block(), torch.randn(1, 9, 9, 16)
    old = block(x)
    block.attn.get_parameter(name).data.mul_(1.5)
    assert not torch.allclose(block(x), old, atol=1e-4)
    torch.testing.assert_close(block(x), two_lines(block, x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_shared_position_network_serves_each_block_with_its_window():
    x, windows = torch.randn(1, 9, 9, 16), [((3, 5), 0), ((5, 3), 0), ((5, 3), 9)]
    blocks = [make_block((1, 1), window_size=w, pretrained_window_sizes=unit) for w, unit in windows]
    for block in blocks:
        block.attn.cpb_mlp = blocks[0].attn.cpb_mlp
    for block in (*blocks, *blocks):
        torch.testing.assert_close(block(x), two_lines(block, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('rate', [0.0, 0.4])
@pytest.mark.parametrize('train', [True, False], ids=['training', 'evaluation'])
@pytest.mark.parametrize('kernel', ['auto', 'cpu', 'sdpa', 'reference'])
def test_a_block_is_the_papers_two_lines_in_value_and_gradient(kernel, train, rate):
    """Also with dropout everywhere, which the fast form must draw in the order of the layers."""
    if kernel == 'cpu' and rate and train:
        pytest.skip("kernel='cpu' has no dropout")
    options = dict(drop_rate=rate, attn_drop_rate=rate, kernel=kernel)
    block, results = make_block((2, 2), rate, **options).double().train(train), []
    for function in (block, lambda x: two_lines(block, x)):
        torch.manual_seed(1)
        x = torch.randn(4, 9, 11, 16, dtype=torch.float64, requires_grad=True)
        y = function(x)
        ramp = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append([y, *torch.autograd.grad((y * ramp).sum(), [x, *block.parameters()])])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('name', ['norm1', 'attn', 'attn.qkv', 'attn.cpb_mlp.1', 'mlp.act'])
@pytest.mark.parametrize('grad', [True, False], ids=['gradient', 'inference'])
def test_a_hook_on_any_part_of_a_block_is_called(name, grad):
    block, x, calls = make_block(), torch.randn(1, 4, 4, 16), []
    block.get_submodule(name).register_forward_hook(lambda *_: calls.append(name))
    with torch.set_grad_enabled(grad):
        block(x)
    assert calls == [name]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('size', [(2, 2), (10, 6), (45, 24)])
def test_patch_merging(size, dtype):
    merging, x = PatchMergingV2(16, nn.LayerNorm).to(dtype), torch.randn(3, *size, 16, dtype=dtype)
    nn.init.normal_(merging.norm.weight)
    even = nn.functional.pad(x, (0, 0, 0, size[1] % 2, 0, size[0] % 2))
    want = merging.norm(merging.reduction(merging.gather(even)))
    ramp = torch.linspace(-1, 1, want.numel(), dtype=dtype).view_as(want)
    tolerance = dict(rtol=1e-4, atol=1e-4) if dtype == torch.float32 else dict(rtol=1e-11, atol=1e-11)
    gradients = [torch.autograd.grad((y * ramp).sum(), merging.parameters()) for y in (merging(x), want)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, **tolerance)
    with torch.no_grad():
        layers = merging.eval()._layers()
        assert layers is not None
        assert cpu_block.can_fuse_merging(layers, even) == (dtype == torch.float32)
        torch.testing.assert_close(merging(x), want, **tolerance)
