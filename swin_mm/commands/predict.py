"""Draws what a trained detector or segmentor finds in images and writes its predictions; flags as in mmdet's demo.

swin-mm predict street.jpg mask_rcnn_swin_t              # with the weights that were published for the recipe
swin-mm predict street.jpg mask_rcnn_swin_t CHECKPOINT
swin-mm predict FOLDER 'more/*.jpg' CONFIG.py --weights CHECKPOINT --out-dir outputs
swin-mm predict FOLDER mask_rcnn_swin_t CHECKPOINT --save vis coco csv --resume
swin-mm predict list.txt https://example.org/street.jpg clip.mp4 mask_rcnn_swin_t CHECKPOINT --every 5
swin-mm predict field.tif mask_rcnn_swin_t CHECKPOINT --tile 1024
swin-mm predict s3://BUCKET/FOLDER mask_rcnn_swin_t CHECKPOINT --cluster auto --out-dir s3://BUCKET/RESULTS
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from ..errors import PreflightError
from ..inference import Detector, Segmentor
from ..inference.drawing import check_display
from ..inference.loading import image_reader
from ..inference.naming import named_model
from ..inference.outputs import Writer
from ..inference.profile import Profile
from ..inference.sources import Sources
from . import on_cluster, predict_tiles
from .ending import INTERRUPTED, program
from .predict_arguments import check_flags, parse_args, task_of
from .predict_outputs import already_written, open_journal, open_writer, shown, write


def set_up(args: argparse.Namespace) -> tuple[Sources, Detector | Segmentor, Writer | None]:
    """Finds the images, loads the model and opens the outputs; refuses before it loads if it can.

    Tiles have no such outputs.
    """
    if args.show:
        check_display()
    cfg, args.weights = named_model(args.model, args.weights)
    check_flags(args, cfg)
    sources = Sources(
        args.inputs,
        predict_tiles.SUFFIXES if args.tile else image_reader(cfg).suffixes,
        every=args.every,
        folders_are_clips=args.video,
        shard=args.shard,
        max_pixels=args.max_pixels,
        left_out=args.out_dir,
    )
    if args.tile:
        predict_tiles.check(args)
    journal = None if args.tile else open_journal(args, cfg)
    if journal:
        _say(f'{already_written(sources, journal)} pictures are written already')
    kind = Segmentor if task_of(cfg) == 'segmentation' else Detector
    model = kind(cfg, args.weights, args.device, args.max_pixels, args.precision, args.compile)
    if args.workers is None:
        args.workers = 0 if model.device.type == 'cpu' else 2  # on a CPU they would take the cores from the model
    return sources, model, None if args.tile else open_writer(args, model, journal)


def predict(
    args: argparse.Namespace, sources: Sources, model: Detector | Segmentor, writer: Writer | None
) -> Iterator[str]:
    """Predicts, and writes and prints the files of each image; yields the reason for each that has no result."""
    profile = Profile() if args.profile else None
    if profile is not None:
        profile.attach(model, writer)
    if writer is None:
        yield from predict_tiles.write(args, sources, model)
    else:
        yield from write(args, sources, model, writer)
    if profile is not None:
        before = len(writer.journal) if args.resume and writer and writer.journal else 0
        _say(*profile.lines(sources.taken - before))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an input or the model cannot be used, 130 after Ctrl-C."""
    args = parse_args(argv)
    if args.cluster is not None:
        return on_cluster.run(args)
    failed: list[str] = []
    try:
        sources, model, writer = set_up(args)
        for reason in predict(args, sources, model, writer):
            failed.append(shown(reason))
        status = 1 if failed else 0
    except BrokenPipeError:
        raise
    except (PreflightError, OSError, ValueError, ImportError) as error:
        _say(str(error))
        status = 1
    except KeyboardInterrupt:
        _say(
            'interrupted: the files printed above are whole'
            + ('' if args.tile else ', and --resume goes on behind them')
        )
        status = INTERRUPTED
    if failed:
        _say(f'{len(failed)} of {sources.taken} pictures have no result:', *failed)
    return status


def _say(*lines: str) -> None:
    for line in lines:
        print(f'{program()}: {line}', file=sys.stderr)
