"""Cuts a token map into windows: padding, shifting, splitting and the mask. Only `padding` knows another way."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .tracing import is_traced

MASKED = -100.0  # added to the score of a masked pair; finite, as in the official code


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of some rows of windows are; strips of a map that look alike share it.

    ``tokens``: how many there are. ``gather`` ``(n * N,)`` int64: the token at each place of the n windows, counted
    from the top, or ``tokens`` for padding. ``scatter`` ``(tokens,)`` int64: the place of each token. ``variants``: how
    many windows have each mask of ``mask_variants``; windows with one mask lie together, in this order.
    """

    tokens: int
    gather: Tensor
    scatter: Tensor
    variants: tuple[int, ...]


@dataclass(frozen=True)
class Strip:
    """Some rows of windows: the rows of the map as (start, stop), two pairs where the shift wraps around."""

    slices: tuple[tuple[int, int], ...]
    layout: Layout


@dataclass(frozen=True)
class WindowGrid:
    """Windows of one block on a map of ``size`` tokens; all three fields are (height, width) in tokens.

    The order is the official detection code's (``SwinTransformerBlock.forward``), and released detectors depend on it:
    pad at the right and bottom to a multiple of the window, *then* shift. Padding tokens are attended to, and neither
    the shift nor the window shrinks on a map smaller than one window.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int] = (0, 0)

    def __post_init__(self):
        for size, window, shift in zip(self.size, self.window, self.shift, strict=True):
            if size < 1 or window < 1:
                raise ValueError(f'size and window must be at least 1 token, got size={self.size} window={self.window}')
            if not 0 <= shift < window:
                raise ValueError(f'shift must be in [0, window), got shift={self.shift} window={self.window}')

    @property
    def counts(self) -> tuple[int, int]:
        """Number of windows as (rows, columns)."""
        (H, W), (h, w) = self.size, self.window
        return (H + h - 1) // h, (W + w - 1) // w  # not -(-H // h): exporters round a negative quotient towards zero

    @property
    def num_windows(self) -> int:
        return self.counts[0] * self.counts[1]

    @property
    def shifted(self) -> bool:
        return self.shift != (0, 0)

    @property
    def padding(self) -> tuple[int, int]:
        """Rows added at the bottom and columns added at the right."""
        (H, W), (h, w), (rows, columns) = self.size, self.window, self.counts
        return rows * h - H, columns * w - W

    def split(self, x: Tensor, fill: Tensor | None = None) -> Tensor:
        """Windows ``(B, num_windows, N, C)`` of a map ``(B, H, W, C)``.

        ``fill`` ``(C,)`` is the value of a padding token; None means zeros.
        """
        h, w = self.window
        x = self._pad(x, fill)
        if self.shifted:
            x = x.roll((-self.shift[0], -self.shift[1]), dims=(1, 2))
        x = x.unflatten(2, (-1, w)).unflatten(1, (-1, h))  # (B, rows, h, columns, w, C)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def join(self, windows: Tensor) -> Tensor:
        """Inverts ``split``: windows ``(B, num_windows, N, C)`` to the map ``(B, H, W, C)``, padding cut off."""
        (H, W), (h, w), (rows, columns) = self.size, self.window, self.counts
        x = windows.unflatten(2, (h, w)).unflatten(1, (rows, columns))  # (B, rows, columns, h, w, C)
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shifted:
            x = x.roll(self.shift, dims=(1, 2))
        return _cut(x, H, W)

    def mask_variants(self, device: torch.device | None = None) -> Tensor:
        """``(4, N, N)`` bool, True where two tokens of a window may attend to each other.

        After the shift only the windows of the last row and of the last column hold tokens of opposite borders, so
        there are four kinds of window: inside, last column, last row, corner.
        """
        (h, w), (dy, dx) = self.window, self.shift
        below = (torch.arange(h, device=device) >= h - dy).repeat_interleave(w)  # (N,) came from the other border
        right = (torch.arange(w, device=device) >= w - dx).repeat(h)
        rows = below[:, None] == below
        columns = right[:, None] == right
        return torch.stack([torch.ones_like(rows), columns, rows, rows & columns])

    def variant(self, device: torch.device | None = None) -> Tensor:
        """``(num_windows,)`` index into ``mask_variants`` for each window."""
        rows, columns = self.counts
        last_row = torch.arange(rows, device=device) == rows - 1
        last_column = torch.arange(columns, device=device) == columns - 1
        return (2 * last_row[:, None] + last_column).flatten()

    def bias_variants(self, bias: Tensor) -> Tensor:
        """``(4, heads, N, N)``: the relative position bias ``(heads, N, N)`` with ``MASKED`` added to masked pairs."""
        masked = (~self.mask_variants(bias.device)).to(bias.dtype) * MASKED
        return bias.contiguous() + masked[:, None]  # heads come last in the memory of a bias from a table

    def strips(self, number: int) -> tuple[Strip, ...]:
        """Cuts the map into ``number`` strips, between rows of windows, or into as many as it has such rows."""
        return _strips(self, min(number, self.counts[0]))

    def _pad(self, x: Tensor, fill: Tensor | None) -> Tensor:
        (h, w), (rows, columns) = self.window, self.counts
        # A recorded graph pads by a whole window and cuts. So it has no branch on the padding, and serves all sizes.
        bottom, right = self.window if is_traced() else self.padding
        if fill is None:
            x = F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x
        else:
            if right:
                x = torch.cat([x, fill.expand(*x.shape[:2], right, -1)], dim=2)
            if bottom:
                x = torch.cat([x, fill.expand(x.shape[0], bottom, x.shape[2], -1)], dim=1)
        return _cut(x, rows * h, columns * w)


def _cut(x: Tensor, H: int, W: int) -> Tensor:
    """The first ``H`` rows and ``W`` columns of a map ``(B, rows, columns, C)``."""
    if is_traced():  # a slice is contiguous at some sizes only, and would need a graph for each case
        return F.pad(x, (0, 0, 0, W - x.shape[2], 0, H - x.shape[1]))
    return x[:, :H, :W]


@lru_cache(maxsize=64)  # those of eight sizes of image
def _strips(grid: WindowGrid, number: int) -> tuple[Strip, ...]:
    rows = grid.counts[0]
    layouts, strips = {}, []
    for first, stop in pairwise(rows * i // number for i in range(number + 1)):
        slices = _slices(grid, first, stop)
        alike = (stop - first, sum(b - a for a, b in slices), stop == rows)
        if alike not in layouts:
            layouts[alike] = _layout(grid, first, stop)
        strips.append(Strip(slices, layouts[alike]))
    return tuple(strips)


def _slices(grid: WindowGrid, first: int, stop: int) -> tuple[tuple[int, int], ...]:
    """Gives the rows of the map that the rows of windows ``first`` to ``stop`` hold, in the order of the windows."""
    H, h, dy = grid.size[0], grid.window[0], grid.shift[0]
    slices = [(first * h + dy, min(stop * h + dy, H))]
    if stop == grid.counts[0]:
        slices.append((0, min(dy, H)))
    return tuple((a, b) for a, b in slices if a < b)


def _layout(grid: WindowGrid, first: int, stop: int) -> Layout:
    """Says where the tokens of the rows of windows ``first`` to ``stop`` are."""
    (H, W), (h, w), (dy, dx), (rows, columns) = grid.size, grid.window, grid.shift, grid.counts
    y = (torch.arange(first * h, stop * h) + dy) % (rows * h)  # where the padded map had them before the shift
    x = (torch.arange(columns * w) + dx) % (columns * w)
    there = y < H
    tokens = int(there.sum()) * W
    places = torch.where(there[:, None] & (x < W), (there.cumsum(0) - 1)[:, None] * W + x, tokens)
    windows = places.view(stop - first, h, columns, w).transpose(1, 2).reshape(-1, h * w)

    kind = grid.variant().view(rows, columns)[first:stop].flatten()
    kind = kind if grid.shifted else torch.zeros_like(kind)
    gather = windows[kind.argsort(stable=True)].flatten()
    scatter = torch.empty(tokens + 1, dtype=torch.long).index_copy_(0, gather, torch.arange(len(gather)))[:tokens]
    return Layout(tokens, gather, scatter.clone(), tuple(torch.bincount(kind, minlength=4).tolist()))
