"""``torch.compile``: one graph for maps of any size, with the numbers of what was compiled."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.eval_frame import _debug_get_cache_entry_list

from swin_mm import SwinTransformer
from swin_mm.backbone.arguments import Arguments
from swin_mm.backbone.arguments_v2 import ArgumentsV2
from swin_mm.backbone.layers import BlockOptions, SwinBlock
from swin_mm.backbone.swin_v2 import SwinBlockV2

# Twenty sizes in tokens: odd ones, multiples of the window one way, the other way and both ways.
MAPS = [(9, 11), (14, 28), (28, 23), (30, 21), (8, 50), (50, 8), (35, 35), *((y, 57 - 2 * y) for y in range(10, 23))]
SMALL_MAPS = [(5, 23), (23, 6), (7, 7), (2, 3), (6, 40), (40, 2)]  # less than a window one way or both ways


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def graphs(module: type[nn.Module]) -> int:
    """How many graphs PyTorch keeps of this kind of module."""
    return len(_debug_get_cache_entry_list(module.forward.__code__))


def values(module: nn.Module, x: Tensor) -> list[Tensor]:
    """What ``module`` makes of ``x``, and the gradients of ``x`` and of the parameters."""
    x = x.clone().requires_grad_()
    out = module(x)
    out = [out] if isinstance(out, Tensor) else list(out)
    total = sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in out)
    return [*out, *torch.autograd.grad(total, [x, *module.parameters()])]


def assert_equal(compiled: nn.Module, eager: nn.Module, x: Tensor) -> None:
    for got, want in zip(values(compiled, x), values(eager, x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ('arguments', 'shift', 'backend'),
    [(Arguments, (0, 0), 'eager'), (Arguments, (3, 3), 'aot_eager'), (ArgumentsV2, (3, 3), 'eager')],
)
def test_a_block_has_one_graph_for_maps_of_any_size(arguments, shift, backend):
    """The second backend traces the backward pass too."""
    assert len(set(MAPS)) == 20
    kind = SwinBlockV2 if arguments is ArgumentsV2 else SwinBlock
    block = kind(16, 2, shift, 0.0, arguments(window_size=7).block_options(0)).double()
    eager = copy.deepcopy(block)
    block.compile(backend=backend, dynamic=True, fullgraph=True)
    for size in MAPS:
        assert_equal(block, eager, torch.randn(2, *size, 16, dtype=torch.float64))
        assert graphs(kind) == 1, size


@pytest.mark.slow
@pytest.mark.parametrize('shift', [(0, 0), (3, 3)], ids=str)
def test_maps_one_window_wide_add_few_graphs(shift):
    block = SwinBlock(16, 2, shift, 0.0, BlockOptions()).double()
    eager = copy.deepcopy(block)
    block.compile(backend='aot_eager', dynamic=True, fullgraph=True)
    for size in SMALL_MAPS + MAPS:
        assert_equal(block, eager, torch.randn(2, *size, 16, dtype=torch.float64))
    assert graphs(SwinBlock) <= 4


@pytest.mark.slow
@torch._dynamo.config.patch(recompile_limit=16)
def test_blocks_of_a_stage_share_their_graphs(make_swin):
    """Two for each width whatever the rate of drop path, and one more where a stage is deeper than two blocks.

    What patch merging hands to a first block is a view, and what a block hands to the next one is not.
    """
    net = make_swin(embed_dims=16, depths=(2, 2, 6, 2), num_heads=(1, 2, 4, 8), drop_path_rate=0.2)
    for stage in net.layers:
        for block in stage.blocks:
            block.compile(backend='eager', dynamic=True, fullgraph=True)
    for height, width in MAPS:
        sum(y.mean() for y in net(torch.randn(2, 3, 256 + 8 * height, 256 + 6 * width))).backward()
    assert graphs(SwinBlock) <= 9
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize('dynamic', [True, None])
def test_a_backbone_has_few_graphs_for_images_of_any_size(make_swin, dynamic):
    """In multiples of 32, to which OpenMMLab pads a batch."""
    net = make_swin(embed_dims=16, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8), drop_path_rate=0.0).double()
    eager = copy.deepcopy(net)
    net.compile(backend='eager', dynamic=dynamic, fullgraph=True)
    for height, width in MAPS:
        size = (256 + 32 * (height % 9), 256 + 32 * (width % 11))
        assert_equal(net, eager, torch.randn(2, 3, *size, dtype=torch.float64))
    assert graphs(SwinTransformer) <= 3
