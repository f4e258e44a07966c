"""``swin-mm recipes``: a table of the recipes, from their own headers; with ``--markdown`` the page docs/models.md."""

import argparse
import ast
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from ..errors import PreflightError
from ..recipes import known_presets, known_recipes, recipes_folder

TASKS = {'mmdet': 'detection', 'mmseg': 'segmentation'}
HEADER = re.compile(r'Expected: (?P<expected>[^;]+);.*?From: (?P<source>[^(.,]+)', re.DOTALL)
FLOPS = re.compile(r'(\d+) ?G(?:FLOPs| multiply-adds)')
PAGE = """# The recipes

`swin-mm recipes --markdown` writes this page from the recipes; do not edit it. `swin-mm train NAME` trains any of them.

`from` says whose the expected number is. Numbers of others were not reproduced here; the first lines of a recipe say
what was stated with them, and where our count differs. Parameters are counted. FLOPs are multiply-adds, as published
with the number, for one image of 800x1280 pixels in detection, of 512x2048 in segmentation, and of 640x2560 where crops
are of 640x640. `batch` is the number of images in a step, over all GPUs. Training memory was not measured on a GPU, so
no column states it.
"""
COLUMNS = ('recipe', 'train', 'initial weights', 'expected', 'from', 'parameters', 'FLOPs', 'schedule', 'batch')


class Recipe(NamedTuple):
    """A row of the table: ``expected`` are figures, ``source`` says whose they are."""

    name: str
    task: str
    expected: str
    source: str


def main(argv: Sequence[str] | None = None) -> list[Recipe]:
    """The rows of the table or page, as printed."""
    parser = argparse.ArgumentParser(description='List the recipes with their expected numbers')
    parser.add_argument('task', nargs='?', choices=list(TASKS.values()), help='list the recipes of this task only')
    parser.add_argument('--markdown', action='store_true', help='print a page: also weights, parameters and schedules')
    args = parser.parse_args(argv)
    paths = {path: read_recipe(path) for path in known_recipes()}
    paths = {path: row for path, row in paths.items() if args.task in (None, row.task)}
    if args.markdown:
        print(write_page(paths), end='')
    else:
        _print_table(list(paths.values()))
    return list(paths.values())


def read_recipe(path: Path) -> Recipe:
    """The row of a recipe; raises PreflightError as `read_header` does."""
    return Recipe(path.stem, TASKS[Config.fromfile(path).default_scope], *read_header(path))


def read_header(path: Path) -> tuple[str, str]:
    """(figures, whose) of a recipe; raises PreflightError if ``Expected: ...;`` or ``From: ...`` is missing."""
    found = HEADER.search(_docstring(path))
    if found is None:
        raise PreflightError(f"{path}: the docstring of a recipe must say 'Expected: FIGURES; ...' and 'From: WHOSE'")
    expected, source = (textwrap.shorten(found[name], 200) for name in ('expected', 'source'))
    return expected, source


def write_page(recipes: dict[Path, Recipe]) -> str:
    """Writes docs/models.md with a table for each task of ``recipes``, a row for each of their files."""
    parts = [PAGE]
    for task in TASKS.values():
        rows = [_page_row(path, recipe) for path, recipe in recipes.items() if recipe.task == task]
        if rows:
            table = [COLUMNS, ['---'] * len(COLUMNS), *rows]
            parts.append('\n'.join([f'## {task.capitalize()}\n', *(f'| {" | ".join(row)} |' for row in table)]) + '\n')
    return '\n'.join(parts)


def _print_table(rows: list[Recipe]) -> None:
    table = [Recipe('recipe', 'task', 'expected', 'whose'), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print('  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths, strict=True)).rstrip())
    aliases = len(list(recipes_folder().glob('swin/*.py')))
    print(f"\nNames serve wherever a config is wanted; so do the official repositories' file names ({aliases}).")
    print('\nPresets, which any recipe takes: --cfg-options presets=NAME,NAME')
    for path in known_presets():
        print(f'  {path.stem:<16}{path.read_text().splitlines()[0].lstrip("# ")}')


def _page_row(path: Path, recipe: Recipe) -> list[str]:
    """The cells of ``COLUMNS`` for one recipe."""
    cfg = Config.fromfile(path)
    weights = (cfg.model.backbone.get('init_cfg') or {}).get('checkpoint')
    flops = FLOPS.search(_docstring(path))
    epochs, iterations = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    return [
        f'[{path.stem}](../configs/{path.name})',
        f'`swin-mm train {path.stem}`',
        _link(weights) if weights else 'none',
        recipe.expected,
        recipe.source,
        f'{_count_parameters(cfg) / 1e6:.1f}M',
        f'{flops[1]}G' if flops else 'not stated',
        f'{epochs} epochs' if epochs else f'{iterations:,} iterations',
        str(cfg.auto_scale_lr.base_batch_size),
    ]


def _link(weights: str) -> str:
    """The name of the file ``weights``; with a link if that is an address."""
    name = Path(weights).stem
    return f'[{name}]({weights})' if '://' in weights else name


def _count_parameters(cfg: Config) -> int:
    """Builds the model of ``cfg`` without memory for its weights."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return sum(parameter.numel() for parameter in MODELS.build(cfg.model).parameters())


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ''
