"""Shows what windows save: time and memory of window and global attention over the tokens of a map.

Section 3.2 of arXiv 2103.14030: with h x w tokens of C channels, global attention costs 4 hw C^2 + 2 (hw)^2 C
multiply-adds (equation 1), that in windows of M x M tokens 4 hw C^2 + 2 M^2 hw C (equation 2).
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..backbone import SwinTransformer
from ..backbone.attention import GlobalAttention, SelfAttention, WindowAttention
from ..errors import megabytes
from .flops import Attention, window_attention
from .measuring import PeakMemory, exponent, measure, milliseconds, shape_text
from .peers import WINDOWS, Conditions, Peer

KINDS: dict[str, type[SelfAttention]] = {'window': WindowAttention, 'global': GlobalAttention}
SIDES = (112, 168, 224, 280, 336, 448, 672, 896, 1120, 1344)  # pixels: at a stride of 4 these maps are whole windows
MOST_GLOBAL = 336  # pixels; scores of the three heads take 0.6 GB there
WIDTH, HEADS, STRIDE = 96, 3, 4  # of the first stage of Swin-T
FITTED_FROM = 10**8  # bytes that a layer needs; below that a fixed cost and the caches of the processor show


def growth(batch: int, conditions: Conditions) -> dict[str, Any]:
    """Measures a layer of each kind, as in the first stage of Swin-T, on the maps of square images of `SIDES`.

    All in plain PyTorch without a bias, as the formulas count it. Memory is the most that a repetition holds at one
    time beyond weights and input.
    """
    runs, points = {}, {}
    for kind, side in ((kind, side) for kind in KINDS for side in SIDES if kind == 'window' or side <= MOST_GLOBAL):
        layer = KINDS[kind](WIDTH, HEADS, (WINDOWS[1],) * 2, relative_bias=False, kernel='reference')
        x = torch.randn(batch, side // STRIDE, side // STRIDE, WIDTH)
        points[kind, side] = dict(side=side, tokens=x[0, ..., 0].numel(), counted=_count(layer, x))
        runs[kind, side] = (layer, Peer(layer.to(conditions.device)).repetition(x.to(conditions.device), conditions))
    for key, entry in measure(runs, conditions).items():
        with PeakMemory() as memory:
            runs[key][1]()
        points[key] |= entry | dict(memory=memory.peak)
    return {kind: _fitted([point for (name, _), point in points.items() if name == kind]) for kind in KINDS}


def _count(layer: SelfAttention, x: Tensor) -> int:
    """Counts the multiply-adds of ``layer`` for the first map of ``x``."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(layer).to('meta')(x[:1].to('meta'))
    return counter.get_total_flops() // 2


def _fitted(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Gives the points of a kind, the exponents of time and memory in tokens, and how many tokens these start at."""
    tokens = [point['tokens'] for point in points]
    start = min(point['tokens'] for point in points if point['memory'] >= FITTED_FROM)
    slopes = {cost: exponent(tokens, [point[cost] for point in points], start) for cost in ('median', 'memory')}
    return dict(points=points, fitted_from=start, exponents=slopes)


def costs_of_stages(arch: str, shape: tuple[int, int]) -> dict[str, list[Attention]]:
    """Counts the attention of each stage of ``arch`` in windows and over whole maps, beside the formulas."""
    whole = SwinTransformer(arch, attention='global', position='none')
    return {'window': window_attention(SwinTransformer(arch), shape), 'global': window_attention(whole, shape)}


def stages_table(costs: dict[str, list[Attention]], shape: tuple[int, int]) -> str:
    """Writes formulas and counts of all stages, for an image of ``shape``, as a table, a line each."""
    lines = [
        f'Multiply-adds of the attention of each stage, {shape_text(shape)}; global (equation 1), window (equation 2)'
    ]
    lines += [f'{"map":>12}{"equation 1":>14}{"counted":>14}{"equation 2":>14}{"counted":>14}']
    for window, whole in zip(costs['window'], costs['global'], strict=True):
        figures = (whole.global_formula, whole.counted, window.window_formula, window.counted)
        lines.append(f'{"{} x {}".format(*window.size):>12}' + ''.join(f'{x / 1e9:12.3f} G' for x in figures))
    return '\n'.join(lines)


def growth_table(result: dict[str, Any]) -> str:
    """Writes the measured points as a table, a line each, with the fitted exponents below."""
    head = f'{"image":>6}{"tokens":>8}'
    lines = [head + ''.join(f'{kind:>13}{"counted":>14}{"memory":>14}' for kind in KINDS)]
    by_side = {kind: {point['side']: point for point in result[kind]['points']} for kind in KINDS}
    for side, first in by_side['window'].items():
        line = f'{side:6}{first["tokens"]:8,}'
        for points in by_side.values():
            if point := points.get(side):
                line += f'{milliseconds(point["median"]):>13}{point["counted"] / 1e9:12.3f} G'
                line += f'{megabytes(point["memory"]):>14}'
        lines.append(line)
    for kind in KINDS:
        time, memory = (result[kind]['exponents'][cost] for cost in ('median', 'memory'))
        start = f'from {result[kind]["fitted_from"]:,} tokens up'
        lines.append(f'{kind}: time ~ tokens ** {time:.2f}, memory ~ tokens ** {memory:.2f}, {start}')
    return '\n'.join(lines)
