"""``swin-mm verify``: tests published weights and compares each metric with the number that the recipe states.

swin-mm verify mask_rcnn_swin_t --cfg-options data_root=/path/to/coco/
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..checkpoints.published import OFFICIAL
from ..errors import PreflightError
from ..inference.naming import published_weights
from ..recipes import find_config, recipe_of
from . import launch, test
from .recipes import read_header

LIMIT = 0.1  # percentage points beyond the published number or range
# What recipes call a metric: its key in the result of a test, and what makes it a percentage.
METRICS = {
    'box AP': ('coco/bbox_mAP', 100),
    'mask AP': ('coco/segm_mAP', 100),
    'box AP50': ('coco/bbox_mAP_50', 100),
    'mask AP50': ('coco/segm_mAP_50', 100),
    'PQ': ('coco_panoptic/PQ', 1),
    'mIoU': ('mIoU', 1),
}
SEVERAL = 'with several scales and flip'  # the mIoU of `swin-mm test --tta`
FIGURE = re.compile(r'(?P<name>.+?) (?P<low>\d+(?:\.\d+)?)(?: to (?P<high>\d+(?:\.\d+)?))?')


class Figure(NamedTuple):
    """A published metric: a number where ``low`` equals ``high``, else a range; both in percent if above 1."""

    metric: str
    low: float
    high: float
    several_scales: bool = False

    @property
    def name(self) -> str:
        """The metric as printed, with the protocol if it is another than one scale."""
        return f'{self.metric}, {SEVERAL}' if self.several_scales else self.metric

    @property
    def unit(self) -> int:
        """One published unit in percentage points."""
        return 100 if self.high <= 1 else 1

    def measured(self, results: dict[str, float]) -> float | None:
        """Gives the metric in ``results`` of a test, in percent; None if it is not there."""
        key, percent = METRICS[self.metric]
        return results[key] * percent if key in results else None

    def holds(self, percent: float | None) -> bool:
        """Whether ``percent`` was measured and lies within ``LIMIT`` of the number or range; NaN does not."""
        if percent is None:
            return False
        beyond = max(self.low * self.unit - percent, percent - self.high * self.unit)
        return round(beyond, 6) <= LIMIT  # 43.7 - 43.6 is a little more than 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 if every published metric was measured and holds, else 1."""
    parser = argparse.ArgumentParser(description="Test published weights and compare with the recipe's numbers")
    parser.add_argument('config', metavar='RECIPE', help=launch.CONFIG_HELP)
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        nargs='?',
        help='path, URL, hf://OWNER/NAME or name of a published file (default: the official one of the recipe)',
    )
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='as `swin-mm test` takes them')
    launch.add_cache(parser)
    args = parser.parse_args(argv)
    found = find_config(args.config)
    path = recipe_of(found) or found
    figures = read_figures(path)
    words = [str(path), _weights(path, args.checkpoint)]
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    results = {
        several: test.main([*words, *(['--tta'] if several else []), *options])
        for several in sorted({figure.several_scales for figure in figures})
    }
    return _compare(figures, [figure.measured(results[figure.several_scales]) for figure in figures])


def read_figures(path: Path) -> list[Figure]:
    """The published metrics of a recipe, from ``Expected: ...;``; raises PreflightError if there are none."""
    figures: list[Figure] = []
    expected = read_header(path)[0]
    if expected == 'not known':
        raise PreflightError(f'{path}: no number was published for this recipe, so there is nothing to compare with')
    for part in expected.split(', '):
        found = FIGURE.fullmatch(part)
        several = found is not None and found['name'] == SEVERAL
        metric = 'mIoU' if several else found and found['name']
        if found is None or metric not in METRICS:
            known = ', '.join([*METRICS, SEVERAL])
            raise PreflightError(
                f"{path}: 'Expected:' must list 'METRIC NUMBER' or 'METRIC LOW to HIGH', the metric one of {known}, "
                f"got '{part}'"
            )
        figures.append(Figure(metric, float(found['low']), float(found['high'] or found['low']), several))
    return figures


def _weights(recipe: Path, given: str | None) -> str:
    """The checkpoint ``given``, or its address if it names a published file; for None the recipe's official one."""
    if given is None:
        return published_weights(recipe)
    by_name = {weights.name: weights.url for weights in OFFICIAL}
    return given if os.path.exists(given) else by_name.get(given, given)


def _compare(figures: list[Figure], measured: list[float | None]) -> int:
    """Prints a line a metric, in the published unit; gives the exit status."""
    width = max(len(figure.name) for figure in figures)
    for figure, percent in zip(figures, measured, strict=True):
        published = f'{figure.low}' + (f' to {figure.high}' if figure.high != figure.low else '')
        if percent is None:
            verdict = 'not measured'
        else:
            digits = 2 if figure.unit == 1 else 4
            verdict = f'measured {percent / figure.unit:.{digits}f}  {"ok" if figure.holds(percent) else "differs"}'
        print(f'{figure.name:<{width}}  published {published}  {verdict}')
    return 0 if all(map(Figure.holds, figures, measured)) else 1
