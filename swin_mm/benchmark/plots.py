"""Draws what a benchmark found: implementations or methods side by side, or costs that grow with the image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .complexity import KINDS, STRIDE
from .measuring import shape_text


def plot(report: dict[str, Any], path: Path) -> None:
    """Draws ``report`` into the file ``path``, in the way that suits what it holds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    key = next(key for key in PLOTS if key in report)
    draw, panels = PLOTS[key]
    figure = Figure(figsize=(9, 5), layout='constrained')
    FigureCanvasAgg(figure)
    draw(figure.subplots(1, panels), report[key])
    machine, settings = report['machine'], report['settings']
    model = settings['recipe'] or settings['model'] or f'Swin {settings["arch"]}'
    device = machine['gpu'] or f'{machine["cpu"]}, threads: {machine["threads"]}'
    figure.suptitle(
        f'{model}, batch {settings["batch"]}, {settings["dtype"]}, {settings["mode"]}\n{device}', fontsize='medium'
    )
    figure.savefig(path, dpi=120)


def _plot_comparison(axes: Any, results: Sequence[dict[str, Any]]) -> None:
    groups = {shape_text(result['shape']): result['implementations'] for result in results}
    _draw_bars(axes, groups)
    axes.set_ylabel('median time, ms, with the middle half')
    axes.legend(title=f'n x: speed over {results[0]["reference"]}')


def _plot_scaling(axes: Any, scaling: dict[str, Any]) -> None:
    points = scaling['points']
    pixels, medians = [point['pixels'] for point in points], [point['median'] * 1e3 for point in points]
    _draw_growth(axes, pixels, medians, scaling['exponent'], scaling['fitted_from'], 'measured', 'pixels')
    axes.set_xlabel('pixels')
    axes.set_ylabel('median time, ms')
    axes.legend()


def _plot_ablations(panels: Any, result: dict[str, Any]) -> None:
    stages = {f'stage {i}': entries for i, entries in enumerate(result['stages'], 1)}
    for axes, groups in zip(panels, (stages, result['archs']), strict=True):
        _draw_bars(axes, groups, rotation=90)
    panels[0].set_ylabel('attention of a stage, ms')
    panels[1].set_ylabel('whole backbone, ms')
    handles, labels = panels[0].get_legend_handles_labels()
    title = f'medians with the middle half; n x: speed over {result["reference"]}'
    panels[0].figure.legend(handles, labels, title=title, loc='outside lower center', ncols=3)


def _plot_complexity(panels: Any, result: dict[str, Any]) -> None:
    for axes, cost, factor, label in zip(
        panels, ('median', 'memory'), (1e3, 1e-6), ('median time, ms', 'memory, MB'), strict=True
    ):
        for kind in KINDS:
            points, slope = result[kind]['points'], result[kind]['exponents'][cost]
            tokens, costs = [point['tokens'] for point in points], [point[cost] * factor for point in points]
            _draw_growth(axes, tokens, costs, slope, result[kind]['fitted_from'], kind, 'tokens')
        top = axes.secondary_xaxis('top', functions=(lambda n: STRIDE * n**0.5, lambda side: (side / STRIDE) ** 2))
        top.set_xlabel('side of the image, pixels')
        axes.set_xlabel('tokens of the map')
        axes.set_ylabel(f'attention layer: {label}')
        axes.legend()


def _draw_bars(axes: Any, groups: dict[str, dict[str, dict[str, Any]]], rotation: int = 0) -> None:
    """Draws a bar for each entry of each group: its median in ms, with quartiles, and its speed at that angle."""
    names = list(next(iter(groups.values())))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        entries = [group[name] for group in groups.values()]
        places = [place + (i - (len(names) - 1) / 2) * width for place in range(len(entries))]
        medians = np.array([entry['median'] for entry in entries])
        quartiles = np.array([entry['quartiles'] for entry in entries]).T
        errors = np.abs(quartiles - medians) * 1e3
        bars = axes.bar(places, medians * 1e3, width, yerr=errors, label=name, capsize=2)
        axes.bar_label(
            bars, [f'{entry["speed"]:.2f}x' for entry in entries], fontsize='x-small', rotation=rotation, padding=2
        )
    axes.margins(y=0.15)
    axes.set_xticks(range(len(groups)), groups)


def _draw_growth(
    axes: Any, sizes: Sequence[int], costs: Sequence[float], slope: float | None, start: int, name: str, unit: str
) -> None:
    """Draws ``costs`` over ``sizes`` on logarithmic axes, and the line of the exponent ``slope`` from ``start`` up."""
    x, y = np.array(sizes), np.array(costs)
    (line,) = axes.loglog(x, y, 'o-', label=name)
    if slope is not None:
        x, y = x[x >= start], y[x >= start]
        middle = np.exp(np.log(y).mean() - slope * np.log(x).mean())
        axes.loglog(x, middle * x**slope, '--', color=line.get_color(), label=f'{unit} ** {slope:.3f}')


PLOTS: dict[str, tuple[Callable[[Any, Any], None], int]] = {
    'results': (_plot_comparison, 1),
    'scaling': (_plot_scaling, 1),
    'ablations': (_plot_ablations, 2),
    'complexity': (_plot_complexity, 2),
}
