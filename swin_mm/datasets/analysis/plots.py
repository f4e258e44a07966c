"""Draws confusions, precision over recall, and what each kind of error costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

NUMBERED = 20  # classes up to which the cells of a confusion matrix have their numbers
SHOWN = 20  # classes with the most to gain
PANELS = 10  # precision-recall curves in a row


def plot_confusion(path: Path, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Path:
    """Draws a confusion matrix (truth, found) as shares of its rows; colours go by the square root, so few show too."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(0.17 * len(rows), 3) + 2.5
    figure = _figure(side + 0.5, side)
    axes = figure.subplots()
    image = axes.imshow(np.sqrt(shares), cmap='Blues', vmin=0, vmax=1)
    few = len(rows) <= NUMBERED
    size = 9 if few else 7
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    axes.tick_params(top=not few, labeltop=not few, right=not few, labelright=not few)
    axes.set(xlabel='found', ylabel='annotated')
    if few:
        for (i, j), share in np.ndenumerate(shares):
            if matrix[i, j]:
                colour = 'white' if share > 0.35 else 'black'
                axes.text(j, i, f'{100 * share:.0f}', ha='center', va='center', color=colour, fontsize=size)
    bar = figure.colorbar(image, shrink=min(4 / side, 0.7), ticks=np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1]))
    bar.ax.set_yticklabels(['0', '1', '10', '25', '50', '100'])
    bar.set_label('% of the row')
    return _save(figure, path)


def plot_curves(path: Path, precision: np.ndarray, recalls: np.ndarray, classes: Sequence[str]) -> Path:
    """Draws precision over recall, a panel a class: (10 IoUs, recalls, classes) as pycocotools gives it."""
    shown = [k for k in range(len(classes)) if precision[0, 0, k] >= 0]
    columns = max(min(PANELS, int(np.ceil(np.sqrt(len(shown) * 1.5)))), 1)
    rows = max(-(-len(shown) // columns), 1)
    figure = _figure(1.7 * columns + 0.5, 1.8 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, k in zip(panels, shown, strict=False):
        for place, name in ((0, 'IoU 0.5'), (5, 'IoU 0.75'), (8, 'IoU 0.9')):
            axes.plot(recalls, precision[place, :, k], label=name, linewidth=1)
        axes.set_title(f'{classes[k]}: AP50 {100 * precision[0, :, k].mean():.1f}', fontsize=8)
        axes.grid(alpha=0.3)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    panels[0].set(xlim=(0, 1), ylim=(0, 1.02))
    figure.supxlabel('recall', fontsize=9)
    figure.supylabel('precision', fontsize=9)
    if shown:
        figure.legend(*panels[0].get_legend_handles_labels(), loc='outside upper left', ncols=3, fontsize=8)
    return _save(figure, path)


def plot_gains(
    path: Path, kinds: Sequence[str], gained: np.ndarray, by_class: np.ndarray, classes: Sequence[str]
) -> Path:
    """Draws what AP50 gains without each kind of error: over all classes, and in the classes that gain most."""
    total = np.nan_to_num(np.maximum(by_class, 0)).sum(0)
    most = np.argsort(-total, kind='stable')[:SHOWN]
    figure = _figure(11, max(3.5, 0.25 * len(most) + 1.2))
    left, right = figure.subplots(1, 2)
    colours = [f'C{i}' for i in range(len(kinds))]
    bars = left.bar(kinds, 100 * gained, color=colours)
    left.bar_label(bars, [f'{100 * value:.1f}' for value in gained], fontsize=8)
    left.tick_params(axis='x', labelsize=8)
    left.set(title='AP50 without errors of this kind', ylabel='points gained')
    start = np.zeros(len(most))
    for kind, colour, row in zip(kinds, colours, np.nan_to_num(np.maximum(by_class, 0))[:, most], strict=True):
        right.barh([classes[k] for k in most], 100 * row, left=start, color=colour, label=kind)
        start += 100 * row
    right.invert_yaxis()
    right.tick_params(axis='y', labelsize=8)
    title = 'by class' if len(classes) <= SHOWN else f'the {SHOWN} of {len(classes)} classes that gain most'
    right.set(title=title, xlabel='points gained')
    return _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=100)
    return path
