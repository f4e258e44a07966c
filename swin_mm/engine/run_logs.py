"""Reads the losses, learning rates and metrics of a training from the JSON logs in its folder."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

LOGS = ('vis_data/scalars.json', 'vis_data/{0}.json', '{0}.json')  # in the folder TIMESTAMP of a run, of this name
ITERATION, EPOCH = 'iteration', 'epoch'


class Series(NamedTuple):
    """What a curve shows: a value by its ``name`` in the log, of ``split`` 'train' or 'val', over ``unit``.

    ``unit`` says what the steps count: 'iteration' or 'epoch', from 1.
    """

    split: str
    name: str
    unit: str


Curves = dict[Series, dict[int, float]]  # value by step, in the order of the steps


def read_curves(folder: str | os.PathLike) -> Curves:
    """Gives the curves of the run in the work folder ``folder``; a run that was resumed is one.

    Where a later part begins at an iteration that an earlier one had passed, the values from there on are the later
    part's: those that the earlier one had beyond its checkpoint never led anywhere.

    Raises FileNotFoundError if there is no log, and ValueError for one that cannot be read.
    """
    folder = Path(folder)
    files = list(_logs(folder))
    if not files:
        what = 'holds no log of a training' if folder.is_dir() else 'no such folder'
        raise FileNotFoundError(f'{folder}: {what}, looked for TIMESTAMP/vis_data/scalars.json and TIMESTAMP.json')
    joined = _Joined()
    for file in files:
        for line in _lines(file):
            joined.add(line)
    if not joined.curves:
        raise ValueError(f'{folder}: no losses and no metrics in {", ".join(str(file) for file in files)}')
    return {series: dict(sorted(steps.items())) for series, steps in joined.curves.items() if steps}


class _Joined:
    """The curves of the lines that were added so far."""

    def __init__(self) -> None:
        self.curves: Curves = {}
        self.iteration = self.epoch = 0  # of the last line of training

    def add(self, line: dict[str, Any]) -> None:
        """Adds the numbers of one line of a log."""
        if 'iter' in line:
            split, unit, step = 'train', ITERATION, line['iter']
            if step <= self.iteration:
                self._forget(step, line.get('epoch'))
            self.iteration, self.epoch = step, line.get('epoch', 0)
        elif 1 <= line['step'] <= self.epoch:
            split, unit, step = 'val', EPOCH, line['step']
        else:  # mmengine counts 0 epochs in a loop of iterations, unless log_metric_by_epoch=False
            split, unit, step = 'val', ITERATION, max(line['step'], self.iteration)
        for key, value in line.items():
            if key not in ('iter', 'epoch', 'step') and type(value) in (int, float):
                series = Series(split, key.removeprefix(f'{split}/'), unit)
                self.curves.setdefault(series, {})[step] = value

    def _forget(self, iteration: int, epoch: int | None) -> None:
        """Removes what was logged from an iteration on, which lies in ``epoch``; None if the run counts none."""
        for series, steps in self.curves.items():
            first = iteration if series.unit == ITERATION else epoch
            for step in [step for step in steps if first is not None and step >= first]:
                del steps[step]


def _logs(folder: Path) -> Iterator[Path]:
    """Yields the logs below a work folder, or of a run's own folder, oldest first: their names are times."""
    own = next(folder.glob('vis_data/*.json'), None) is not None
    for run in [folder] if own else sorted(path for path in folder.glob('*') if path.is_dir()):
        if found := next((run / log.format(run.name) for log in LOGS if (run / log.format(run.name)).is_file()), None):
            yield found
    if not own:
        yield from sorted(path for path in folder.glob('[0-9]*_[0-9]*.json') if path.is_file())


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines with a step; the results of a test, which are also written as JSON, have none."""
    lines = file.read_text().splitlines()
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            if number == len(lines):  # the process was killed while it wrote
                return
            raise ValueError(f'{file}: line {number} must be JSON as mmengine logs it: {error}') from error
        if isinstance(line, dict) and type(line.get('step')) is int:
            yield line
