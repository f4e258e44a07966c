"""Tells the windows that a network was trained with from what its checkpoint holds."""

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from .dialects import COORDINATES

Window = tuple[int, int]  # (height, width) in tokens


def window_of(name: str, value: Tensor) -> Window | None:
    """Tells the window from the official tensor of this name, None if it does not say.

    A relative position bias table says it if the window is square, V2's ``relative_coords_table`` for any.
    """
    if name.endswith(COORDINATES) and value.ndim == 4 and value.shape[::3] == (1, 2):
        return (value.shape[1] + 1) // 2, (value.shape[2] + 1) // 2
    if name.endswith('.relative_position_bias_table') and value.ndim == 2:
        side = isqrt(value.shape[0])
        return ((side + 1) // 2,) * 2 if side % 2 and side * side == value.shape[0] else None
    return None


def units_of(state: Mapping[str, Tensor]) -> dict[int, Window]:
    """V2: tells for each stage the window that offsets are counted in, from its ``relative_coords_table``.

    The largest offset in that window is 1 (official ``WindowAttention.__init__``). A stage that does not say is absent.
    """
    units: dict[int, Window] = {}
    for name, value in state.items():
        if name.endswith(f'.blocks.0.attn.{COORDINATES}') and (unit := _unit_of(name, value)):
            units[int(name.split('.')[1])] = unit
    return units


def _unit_of(name: str, table: Tensor) -> Window | None:
    h, w = window_of(name, table) or (0, 0)
    if min(h, w) < 2 or table.is_meta:
        return None
    # The coordinate of an offset of one token, whose definition is log2(1 + 8 / longest offset) / 3.
    steps = float(table[0, h, w - 1, 0]), float(table[0, h - 1, w, 1])
    if min(steps) <= 0:
        return None
    height, width = (round(8 / (8**step - 1)) + 1 for step in steps)
    return height, width
