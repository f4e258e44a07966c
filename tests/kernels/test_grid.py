"""Where windows lie: every statement against loops over places (``brute_force.windows``)."""

import itertools

import brute_force
import pytest
import torch

from swin_mm.kernels.grid import MASKED, WindowGrid

SIZES = [(12, 9), (14, 14), (3, 5), (1, 1), (7, 20), (15, 8)]
WINDOWS = [((7, 7), (3, 3)), ((7, 7), (0, 0)), ((4, 6), (2, 3)), ((4, 6), (2, 0)), ((5, 2), (0, 1)), ((1, 1), (0, 0))]
GRIDS = [WindowGrid(size, *window) for size, window in itertools.product(SIZES, WINDOWS)]


def windows_of(grid: WindowGrid) -> list[list[brute_force.Token]]:
    return brute_force.windows(grid.size, grid.window, grid.shift)


@pytest.mark.parametrize('fill', [None, 'given'])
@pytest.mark.parametrize('grid', GRIDS, ids=str)
def test_split_brings_each_token_to_its_place(grid, fill):
    (H, W), C = grid.size, 3
    x = torch.randn(2, H, W, C)
    fill = None if fill is None else torch.randn(C)
    padding = torch.zeros(C) if fill is None else fill
    want = [
        [[x[b, t.y, t.x] if t.y < H and t.x < W else padding for t in tokens] for tokens in windows_of(grid)]
        for b in range(2)
    ]
    want = torch.stack([torch.stack([torch.stack(tokens) for tokens in sample]) for sample in want])
    assert torch.equal(grid.split(x, fill), want)


@pytest.mark.parametrize('grid', GRIDS, ids=str)
def test_join_undoes_split(grid):
    x = torch.randn(2, 3, *grid.size).permute(0, 2, 3, 1)  # not contiguous
    windows = grid.split(x, torch.full((3,), torch.nan))
    assert windows.shape == (2, grid.num_windows, grid.window[0] * grid.window[1], 3)
    assert torch.equal(grid.join(windows), x)


@pytest.mark.parametrize('grid', GRIDS, ids=str)
def test_mask_is_that_of_a_double_loop(grid):
    want = [[[a.region == b.region for b in tokens] for a in tokens] for tokens in windows_of(grid)]
    mask = grid.mask_variants()[grid.variant()]
    assert mask.dtype == torch.bool
    assert torch.equal(mask, torch.tensor(want))


@pytest.mark.parametrize('size', [(14, 14), (70, 35), (8, 9), (7, 7)])
def test_four_variants_serve_every_size(size):
    """The table depends on window and shift alone: its side does not grow with the map."""
    grid = WindowGrid(size, (7, 7), (3, 3))
    assert grid.mask_variants().shape == (4, 49, 49)
    assert torch.equal(grid.mask_variants(), WindowGrid((700, 700), (7, 7), (3, 3)).mask_variants())
    rows, columns = grid.counts
    variant = grid.variant().view(rows, columns)
    assert (variant[:-1, :-1] == 0).all()
    assert (variant[:-1, -1] == 1).all()
    assert (variant[-1, :-1] == 2).all()
    assert variant[-1, -1] == 3


def test_variants_differ_with_a_shift_and_only_then():
    shifted = WindowGrid((14, 14), (7, 7), (3, 3)).mask_variants()
    assert len({tuple(mask.flatten().tolist()) for mask in shifted}) == 4
    assert shifted.diagonal(dim1=1, dim2=2).all(), 'a token always attends to itself: no row is fully masked'
    assert torch.equal(shifted, shifted.mT)
    assert WindowGrid((14, 14), (7, 7)).mask_variants().all()


def test_bias_variants_add_a_finite_number():
    """Official value: a masked pair keeps a weight, if only one of exp(-100)."""
    grid = WindowGrid((14, 14), (4, 6), (2, 3))
    bias = torch.randn(2, 24, 24, dtype=torch.float64)
    variants = grid.bias_variants(bias)
    mask = grid.mask_variants()
    assert MASKED == -100
    assert variants.dtype == bias.dtype
    for kind, head in itertools.product(range(4), range(2)):
        assert torch.equal(variants[kind, head], torch.where(mask[kind], bias[head], bias[head] - 100))


def test_padding_is_less_than_a_window():
    for grid in GRIDS:
        for size, window, count, padding in zip(grid.size, grid.window, grid.counts, grid.padding, strict=True):
            assert size + padding == count * window
            assert 0 <= padding < window


@pytest.mark.parametrize('shift', [(7, 0), (0, -1), (3, 7)])
def test_shift_outside_the_window_raises(shift):
    with pytest.raises(ValueError, match=r'shift must be in \[0, window\), got shift=.* window='):
        WindowGrid((12, 9), (7, 7), shift)


@pytest.mark.parametrize(('size', 'window'), [((0, 9), (7, 7)), ((9, 9), (7, 0))])
def test_nothing_to_attend_to_raises(size, window):
    with pytest.raises(ValueError, match='size and window must be at least 1 token, got size='):
        WindowGrid(size, window)
