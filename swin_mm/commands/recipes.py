"""``swin-mm recipes``: a table of the recipes, from their own headers."""

import argparse
import ast
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from ..recipes import known_presets, known_recipes, recipes_folder

TASKS = {'mmdet': 'detection', 'mmseg': 'segmentation'}
HEADER = re.compile(r'Expected: (?P<expected>[^;]+);.*?From: (?P<source>[^(.,]+)', re.DOTALL)


class Recipe(NamedTuple):
    """A row of the table: ``expected`` are figures, ``source`` says whose they are."""

    name: str
    task: str
    expected: str
    source: str


def main(argv: Sequence[str] | None = None) -> list[Recipe]:
    """The table, as printed."""
    argparse.ArgumentParser(description='List the recipes with their expected numbers').parse_args(argv)
    rows = [read_recipe(path) for path in known_recipes()]
    table = [Recipe('recipe', 'task', 'expected', 'whose'), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print('  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths, strict=True)).rstrip())
    aliases = len(list(recipes_folder().glob('swin/*.py')))
    print(f"\nNames serve wherever a config is wanted; so do the official repositories' file names ({aliases}).")
    print('\nPresets, which any recipe takes: --cfg-options presets=NAME,NAME')
    for path in known_presets():
        print(f'  {path.stem:<16}{path.read_text().splitlines()[0].lstrip("# ")}')
    return rows


def read_recipe(path: Path) -> Recipe:
    """The row of a recipe; raises ValueError if its docstring lacks ``Expected: ...;`` or ``From: ...``."""
    header = ast.get_docstring(ast.parse(path.read_text())) or ''
    found = HEADER.search(header)
    if found is None:
        raise ValueError(f"{path}: the docstring of a recipe must say 'Expected: FIGURES; ...' and 'From: WHOSE'")
    texts = [textwrap.shorten(found[name], 200) for name in ('expected', 'source')]
    return Recipe(path.stem, TASKS[Config.fromfile(path).default_scope], *texts)
