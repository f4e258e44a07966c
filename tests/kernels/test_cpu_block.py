"""Strips give what the layers give, whatever the size, and only where nobody could tell."""

import itertools
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from swin_mm.backbone.layers import BlockOptions, PatchMerging, SwinBlock
from swin_mm.kernels import cpu, cpu_block
from swin_mm.kernels.grid import WindowGrid

SIZES = [(14, 14), (20, 9), (3, 5), (1, 1), (29, 23), (8, 40)]
WINDOWS = [((7, 7), (3, 3)), ((7, 7), (0, 0)), ((4, 6), (2, 3)), ((4, 6), (2, 0)), ((5, 2), (0, 1)), ((1, 1), (0, 0))]
GRIDS = [WindowGrid(size, *window) for size, window in itertools.product(SIZES, WINDOWS)]


@pytest.fixture(params=[8, 60, 10_000], autouse=True)
def tokens(request, monkeypatch):
    """Many strips, some, and one with several images."""
    monkeypatch.setattr(cpu, 'STRIP', 4 * request.param)
    return request.param


def make_block(shift: tuple[int, int] = (3, 3), **options) -> SwinBlock:
    block = SwinBlock(16, 2, shift, 0.1, BlockOptions(**options)).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return block


def fuses(module: SwinBlock | PatchMerging, x: torch.Tensor) -> bool:
    """Whether ``module`` hands its layers out and they are computed fused."""
    if isinstance(module, SwinBlock):
        return (layers := module._layers(x)) is not None and cpu_block.can_fuse(layers, x)
    return (layers := module._layers()) is not None and cpu_block.can_fuse_merging(layers, x)


def by_layers(block: SwinBlock, x: torch.Tensor) -> torch.Tensor:
    x = x + block.attn(block.norm1(x))
    return x + block.mlp(block.norm2(x))


@pytest.mark.parametrize(
    ('size', 'shift', 'options'),
    [
        *((size, shift, {}) for size, shift in itertools.product(SIZES, [(0, 0), (3, 3), (0, 2)])),
        ((20, 9), (3, 3), dict(qkv_bias=False, qk_scale=0.3)),
        ((5, 20), (3, 3), dict(cancel_shift=True)),
        ((13, 20), (2, 1), dict(window=(4, 6), mlp_ratio=1.5)),
    ],
)
@torch.no_grad()
def test_a_block_gives_what_its_layers_give(size, shift, options):
    block, x = make_block(shift, **options), torch.randn(3, *size, 16)
    before = x.clone()
    assert fuses(block, x)
    torch.testing.assert_close(block(x), by_layers(block, x), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)
    channels_first = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(block(channels_first), block(x))


@pytest.mark.parametrize('weights', [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_bfloat16_is_as_near_to_float32_as_by_layers(weights):
    block, x = make_block(), torch.randn(2, 20, 9, 16)
    exact = by_layers(block, x)
    block, x = block.to(weights), x.bfloat16()
    with torch.autocast('cpu', torch.bfloat16, enabled=weights == torch.float32):
        got, want = block(x), by_layers(block, x)
    assert got.dtype == want.dtype == torch.bfloat16
    assert (got - exact).std() < 1.1 * (want - exact).std()


@torch.no_grad()
def test_without_onednn(monkeypatch):
    block, x = make_block(), torch.randn(2, 20, 9, 16)
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close(
            cpu_block.fused_block(block._layers(x), x), by_layers(block, x), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize('change', ['data', 'one element', 'table', 'state dict', 'step', 'swap'])
def test_changed_weights_count_at_once(change):
    block, x = make_block(), torch.randn(1, 9, 9, 16)
    with torch.no_grad():
        old = block(x)
    if change == 'data':
        block.mlp.fc1.weight.data.mul_(1.5)
    elif change == 'one element':
        block.attn.proj.weight.data[3, 5] += 1
    elif change == 'table':
        block.attn.relative_position_bias_table.data[5] += 3
    elif change == 'state dict':
        block.load_state_dict({key: value * 1.5 for key, value in block.state_dict().items()})
    elif change == 'step':
        by_layers(block, x).sum().backward()
        torch.optim.SGD(block.parameters(), lr=0.1).step()
    else:
        block.mlp.fc2.weight = nn.Parameter(torch.randn_like(block.mlp.fc2.weight))
    with torch.no_grad():
        assert not torch.allclose(block(x), old, atol=1e-3)
        torch.testing.assert_close(block(x), by_layers(block, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('part', [(slice(None),), (77,), (slice(None), 301)], ids=['all', 'a row', 'a column'])
def test_a_changed_part_of_a_large_weight_counts(part, dtype):
    layer = nn.Linear(384, 1152).to(dtype)

    def kept() -> object:
        return cpu_block.cached(layer.weight, (), object)

    before = kept()
    assert kept() is before
    layer.weight.data[part] *= 1.5
    assert kept() is not before


@pytest.mark.parametrize('order', ['reversed', 'two changed', 'shifted'])
@pytest.mark.parametrize('axis', [0, 1], ids=['rows', 'columns'])
@pytest.mark.parametrize('shape', [(384, 1536), (1152, 384), (16, 48), (9, 7)], ids=str)
def test_rows_and_columns_in_another_order_count(shape, axis, order):
    """A sum of the words read does not see it."""
    layer = nn.Linear(shape[1], shape[0])
    before = cpu_block.cached(layer.weight, (), object)
    places = torch.arange(shape[axis])
    if order == 'two changed':
        places[[2, 5]] = places[[5, 2]]
    else:
        places = places.flip(0) if order == 'reversed' else places.roll(1)
    layer.weight.data.copy_(layer.weight.detach().index_select(axis, places))
    assert cpu_block.cached(layer.weight, (), object) is not before


@torch.no_grad()
def test_a_table_of_two_blocks_serves_each_with_its_window():
    x, blocks = torch.randn(1, 9, 9, 16), [make_block((1, 1), window=window) for window in ((3, 5), (5, 3))]
    blocks[1].attn.relative_position_bias_table = blocks[0].attn.relative_position_bias_table
    for block in (*blocks, *blocks):
        torch.testing.assert_close(block(x), by_layers(block, x), rtol=1e-5, atol=1e-5)


def test_only_plain_inference_on_the_cpu_takes_this_way():
    x = torch.randn(1, 9, 9, 16)
    assert not fuses(make_block(), x)  # there is a gradient
    with torch.no_grad():
        assert not fuses(make_block().train(), x)
        assert not fuses(make_block(), x.double())
        assert not fuses(make_block(), x.to('meta'))
        assert not fuses(make_block(kernel='reference'), x)
        assert not fuses(make_block(act=nn.ReLU), x)
        assert not fuses(make_block(norm=nn.Identity), x)
        for name in ('attn', 'attn.proj', 'norm2', 'mlp', 'drop_path'):
            hooked = make_block()
            hooked.get_submodule(name).register_forward_hook(lambda *_: None)
            assert not fuses(hooked, x)
        hooked = make_block()
        hooked.register_forward_hook(lambda *_: None)
        assert fuses(hooked, x)  # the block itself is called in any case
        with FlopCounterMode(display=False) as counter:  # it sets hooks for all modules
            make_block()(x)
        assert counter.get_total_flops() > 2 * 9 * 9 * 12 * 16**2, 'the linear layers alone'

        class Adapted(nn.Linear):
            pass

        adapted = make_block()
        adapted.mlp.fc1 = Adapted(16, 64)
        assert not fuses(adapted, x)


@pytest.mark.parametrize('grid', GRIDS, ids=str)
def test_strips_hold_every_token_once_and_windows_in_the_order_of_their_variants(grid, tokens):
    (H, W), N = grid.size, grid.window[0] * grid.window[1]
    number = torch.arange(1, H * W + 1).view(1, H, W, 1)
    windows = grid.split(number)[0, :, :, 0]  # 0 for padding
    variant = grid.variant() if grid.shifted else torch.zeros(grid.num_windows, dtype=torch.long)
    want = {tuple(w.tolist()): int(v) for w, v in zip(windows, variant, strict=True)}
    seen, got = [], {}
    for strip in grid.strips(max(1, 60 // tokens)):
        layout = strip.layout
        held = torch.cat([number[0, start:stop].flatten() for start, stop in strip.slices])
        assert len(held) == layout.tokens
        seen += held.tolist()
        gathered = torch.cat([held, torch.zeros(1, dtype=torch.long)])[layout.gather]
        assert torch.equal(gathered[layout.scatter], held)
        kinds = [kind for kind, count in enumerate(layout.variants) for _ in range(count)]
        got |= {tuple(w.tolist()): kind for w, kind in zip(gathered.view(-1, N), kinds, strict=True)}
    assert sorted(seen) == list(range(1, H * W + 1))
    assert got == want


@pytest.mark.parametrize('size', [(2, 2), (10, 6), (46, 24), (2, 100)])
@torch.no_grad()
def test_patch_merging_gives_what_its_layers_give(size):
    merging, x = PatchMerging(16, nn.LayerNorm).eval(), torch.randn(3, *size, 16)
    assert fuses(merging, x)
    torch.testing.assert_close(merging(x), merging.reduction(merging.norm(merging.gather(x))), rtol=1e-5, atol=1e-5)
    exact, x = merging(x), x.bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        got, want = merging(x), merging.reduction(merging.norm(merging.gather(x)))
    assert got.dtype == want.dtype == torch.bfloat16
    assert (got - exact).std() < 1.1 * (want - exact).std()


def test_merging_with_a_gradient_or_a_hook_is_by_layers():
    merging, x = PatchMerging(16, nn.LayerNorm).eval(), torch.randn(1, 4, 4, 16)
    assert not fuses(merging, x)
    with torch.no_grad():
        assert not fuses(PatchMerging(16, nn.Identity).eval(), x)
        merging.reduction.register_forward_hook(lambda *_: None)
        assert not fuses(merging, x)


FAULTS = """
import resource, torch, swin_mm
torch.set_num_threads(2)
net, image, faults = swin_mm.SwinTransformer(arch='tiny').eval(), torch.zeros(1, 3, 512, 512), []
with torch.inference_mode():
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        net(image)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc is known to take memory back')
@pytest.mark.parametrize('tokens', [8], indirect=True)
def test_memory_is_not_asked_for_again_in_each_forward_pass():
    run = subprocess.run([sys.executable, '-c', FAULTS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 1000  # 6,000 to 30,000 where freed memory goes back
