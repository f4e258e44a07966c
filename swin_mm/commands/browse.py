"""Draws what a network is fed: images and annotations behind the pipeline of a config, as a picture and a page.

swin-mm browse mask_rcnn_swin_pico_shapes
swin-mm browse mask_rcnn_swin_pico_shapes --stats
swin-mm browse cats.py --split val --number 40 --out seen --cfg-options data_root=data/cats/
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..datasets.browsing import Split
from ..datasets.contact_sheets import write_page, write_sheet
from ..datasets.object_statistics import objects_of, write_statistics
from ..errors import PreflightError
from . import launch


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the files and prints their paths; raises PreflightError if the data cannot be read."""
    parser = argparse.ArgumentParser(description='Draw what a network is fed, with its annotations')
    parser.add_argument('config', help=launch.CONFIG_HELP)
    parser.add_argument('--out', default='browsed', metavar='FOLDER', help='default: browsed')
    parser.add_argument('--number', type=int, default=16, help='of images; default: 16')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='default: train')
    parser.add_argument('--seed', type=int, default=0, help='of the choice and of the augmentation; default: 0')
    parser.add_argument('--stats', action='store_true', help='measure all objects of the split instead')
    launch.add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.number < 1:
        parser.error(f'--number must be at least 1, got {args.number}')
    try:
        for path in browse(args):
            print(path)
    except (OSError, ValueError) as error:
        raise PreflightError(str(error)) from error


def browse(args: argparse.Namespace) -> Iterator[Path]:
    """Writes the sheet and the page, or the statistics; yields their paths."""
    split = Split(launch.read_config(args.config, args.cfg_options), args.split)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    if args.stats:
        yield from write_statistics(folder, args.split, list(objects_of(split)))
        return
    samples = list(split.read(args.number, args.seed))
    if not samples:
        raise ValueError(f'the data set of --split {args.split} must hold images, got none')
    yield write_sheet(folder / f'{args.split}.png', samples, split.classes, split.palette)
    title = f'{args.config}, {args.split}: {len(samples)} of {len(split.dataset)} images, seed {args.seed}'
    yield write_page(folder / f'{args.split}.html', samples, split.classes, split.palette, title)
