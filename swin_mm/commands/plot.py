"""Draws the losses, learning rates and metrics of one or several trainings, and writes them as a table.

swin-mm plot work_dirs/mask_rcnn_swin_t
swin-mm plot work_dirs/first work_dirs/second -o compared
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ..engine.curves import write_curves
from ..engine.run_logs import read_curves
from ..errors import PreflightError


def main(argv: Sequence[str] | None = None) -> None:
    """Writes both files and prints their paths; raises PreflightError for a folder without a log."""
    parser = argparse.ArgumentParser(description='Draw losses, learning rates and metrics of trainings')
    parser.add_argument('folders', nargs='+', metavar='WORK_DIR', help='work folder of a training, resumed or not')
    parser.add_argument('-o', '--out', metavar='FOLDER', help='default: that of the only training, or else curves')
    args = parser.parse_args(argv)
    try:
        runs = {name: read_curves(folder) for name, folder in _named(args.folders).items()}
        out = args.out or (args.folders[0] if len(runs) == 1 else 'curves')
        for path in write_curves(out, runs):
            print(path)
    except (OSError, ValueError) as error:
        raise PreflightError(str(error)) from error


def _named(folders: Sequence[str]) -> dict[str, Path]:
    """Names each folder by its last part, or by its whole path where two have the same."""
    paths = list(dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders))
    names = [path.name for path in paths]
    return {path.name if names.count(path.name) == 1 else str(path): path for path in paths}
