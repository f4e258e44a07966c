"""Draws the losses, learning rates and metrics of one or several runs; a hook does so where a training ends."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..errors import one_line
from ..registry import HOOKS
from .run_logs import Curves, Series, read_curves

PICTURE, TABLE = 'curves.png', 'curves.csv'
COLUMNS, WIDTH, HEIGHT, TOP = 4, 4.0, 2.8, 0.5  # of panels; inches of one, and of the legend above
FEW = 40  # points that are marked
NOT_DRAWN = ('time', 'data_time', 'memory', 'base_lr')  # they stand in the table


@HOOKS.register_module()
class TrainingCurves(Hook):
    """Draws the curves of a training into its work folder where it ends: ``curves.png`` and ``curves.csv``.

    They are those of `read_curves`, so a resumed run shows all of its parts. One that cannot be drawn is logged and
    stops nothing. It needs the files of mmengine's ``LocalVisBackend``.
    """

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draws what was logged."""
        folder = Path(runner.work_dir)
        try:
            picture, _ = write_curves(folder, {folder.name: read_curves(folder)})
        except Exception as error:  # no log, a full disk, or what a drawing library says
            runner.logger.warning(f'the curves of this run were not drawn: {one_line(error)}')
        else:
            runner.logger.info(f'losses and metrics are drawn in {picture}')


def write_curves(folder: str | os.PathLike, runs: Mapping[str, Curves]) -> tuple[Path, Path]:
    """Draws ``runs``, curves by the name of the run, and writes their values; gives the paths in ``folder``.

    The picture has a panel for each loss, learning rate and metric, with a line a run. It leaves out COCO's metrics of
    -1, which say that no such objects are there. The table has a row for each value.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _draw(folder / PICTURE, runs)
    with open(folder / TABLE, 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['run', 'split', 'name', 'unit', 'step', 'value'])
        for run, curves in runs.items():
            for series, steps in curves.items():
                table.writerows([run, *series, step, value] for step, value in steps.items())
    return folder / PICTURE, folder / TABLE


def _draw(path: Path, runs: Mapping[str, Curves]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    drawn = [{series: found for series in curves if (found := _drawn(series, curves))} for curves in runs.values()]
    panels = sorted(dict.fromkeys(series for curves in drawn for series in curves), key=_rank)
    columns = max(min(COLUMNS, len(panels)), 1)
    rows = -(-len(panels) // columns)
    width, height = WIDTH * columns, HEIGHT * rows + TOP
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    lines = [Line2D([], [], color=f'C{i}') for i in range(len(runs))]
    figure.legend(lines, list(runs), loc='upper left', ncols=columns)
    for place, series in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place, title=series.name, xlabel=series.unit)
        for i, curves in enumerate(drawn):
            steps = curves.get(series, {})
            mark = '.-' if len(steps) <= FEW else '-'
            axes.plot(list(steps), list(steps.values()), mark, color=f'C{i}', linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    # In inches: a constrained layout takes seconds to find the same for the 20 panels of a detector.
    figure.subplots_adjust(0.6 / width, 0.5 / height, 1 - 0.2 / width, 1 - (TOP + 0.4) / height, 0.25, 0.5)
    figure.savefig(path, dpi=100)


def _drawn(series: Series, curves: Curves) -> dict[int, float]:
    """The values to draw: none of what only the table has, and no -1 of COCO, which says that there are no objects."""
    if series.name in NOT_DRAWN:
        return {}
    return {step: value for step, value in curves[series].items() if series.split == 'train' or value != -1}


def _rank(series: Series) -> tuple[Any, ...]:
    """Losses first, the whole one before its parts; then learning rates, other values of training, metrics."""
    training = series.split == 'train'
    kinds = (training and 'loss' in series.name, series.name.endswith('lr'), training, True)
    return kinds.index(True), series.name != 'loss'
