"""``swin-mm predict --tile``: huge images, read by region."""

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import PreflightError
from ..inference import Detector, Segmentor
from ..inference.sources import Sources
from ..inference.tiles import Raster, detect_in_tiles, segment_in_tiles, write_labels, write_objects
from .predict_outputs import SAVED, drawing_options, flag_of, shown

SUFFIXES = ('.tif', '.tiff', '.jpg', '.jpeg', '.png', '.bmp', '.webp', '.jp2')


def check(args: argparse.Namespace) -> None:
    """Makes the folders; raises PreflightError for a flag that has no meaning for tiles."""
    unwanted: dict[str, Any] = {'save': SAVED, 'show': False, 'print_result': False, 'resume': False}
    unwanted |= {'no_save_vis': False, 'no_save_pred': False, 'with_labels': None}
    for name, usual in unwanted.items():
        if getattr(args, name) != usual:
            raise PreflightError(f'{flag_of(name)} is for images that are predicted whole: leave it or --tile out')
    for folder in ('preds', 'vis'):
        Path(args.out_dir, folder).mkdir(parents=True, exist_ok=True)


def write(args: argparse.Namespace, sources: Sources, model: Detector | Segmentor) -> Iterator[str]:
    """Writes and prints the files of each image; yields the reason for each that has no result."""
    for source in sources:
        try:
            if not isinstance(source.image, Path):
                raise ValueError(f'{source}: --tile reads files only')
            for file in _write_one(args, source.image, source.name, model):
                print(shown(str(file)))
        except (OSError, ValueError, RuntimeError) as error:
            yield str(error)


def _write_one(args: argparse.Namespace, path: Path, name: str, model: Detector | Segmentor) -> Iterator[Path]:
    folder, workers = Path(args.out_dir), args.workers
    for place in ('preds', 'vis'):
        (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
    options = drawing_options(args, model)
    with Raster(path, model.reader) as raster:
        if isinstance(model, Segmentor):
            with closing(segment_in_tiles(model, raster, args.tile, args.overlap, workers)) as bands:
                yield from write_labels(bands, model, raster, folder, name, options['opacity'])
            return
        score = options['score']
        found = detect_in_tiles(model, raster, args.tile, args.overlap, score, args.batch_size, workers)
        yield from write_objects(found, raster, folder, name, options['palette'])
