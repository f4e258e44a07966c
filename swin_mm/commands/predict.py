"""Draws what a trained detector or segmentor finds in images and writes its predictions; flags as in mmdet's demo.

swin-mm predict street.jpg mask_rcnn_swin_t              # with the weights that were published for the recipe
swin-mm predict street.jpg mask_rcnn_swin_t CHECKPOINT
swin-mm predict FOLDER 'more/*.jpg' CONFIG.py --weights CHECKPOINT --out-dir outputs
swin-mm predict FOLDER mask_rcnn_swin_t CHECKPOINT --save vis coco csv --resume
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import PreflightError
from ..inference import Detector, Segmentor
from ..inference.drawing import check_display
from ..inference.images import MAX_PIXELS, check_max_pixels
from ..inference.loading import image_reader
from ..inference.naming import named_model
from ..inference.outputs import FORMATS, Writer
from ..inference.packed import is_packed
from ..inference.sources import find_images
from ..recipes import find_config
from . import launch
from .ending import INTERRUPTED, program
from .predict_outputs import add_flags, flag_of, open_journal, open_writer, shown, write

TASK_FLAGS = dict(pred_score_thr='detection', palette='detection', opacity='segmentation', with_labels='segmentation')


class _Refused(argparse.Action):
    """A flag of mmdet's demo that only its text-prompted models (GLIP, Grounding DINO) have a use for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.error(
            f'{"/".join(self.option_strings)} is for text-prompted models (GLIP, Grounding DINO), not this one'
        )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with `inputs`, `model` and `weights` told apart; exits with status 2 if it makes no sense."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)

    _tell_words_apart(parser, args)
    if args.batch_size < 1:
        parser.error(f'--batch-size must be at least 1, got {args.batch_size}')
    if args.workers < 0:
        parser.error(f'--workers must be at least 0, got {args.workers}')
    if args.opacity is not None and not 0 < args.opacity <= 1:
        parser.error(f'--opacity must be in (0, 1], got {args.opacity:g}')
    try:
        check_max_pixels(args.max_pixels)
    except ValueError as error:
        parser.error(str(error))
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage='%(prog)s INPUTS... MODEL [CHECKPOINT | --weights CHECKPOINT] [flags]',
        description='Draw what a trained model finds in images, and write its predictions.',
    )
    parser.add_argument(
        'words',
        nargs='+',
        metavar='INPUTS... MODEL [CHECKPOINT]',
        help='image files, folders or glob patterns; a config file (.py), a recipe or a packed model (folder or '
        'hf://OWNER/NAME); the checkpoint, or --weights; without one, the weights that go with the name',
    )
    parser.add_argument('--weights', help='checkpoint file, URL or hf://OWNER/NAME')
    launch.add_cache(parser)
    parser.add_argument('--out-dir', default='outputs', help='default: outputs')
    parser.add_argument('--device', help='default: the GPU if there is one')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument(
        '--max-pixels', type=int, default=MAX_PIXELS, help=f'larger pictures are not decoded; default: {MAX_PIXELS}'
    )
    parser.add_argument(
        '--workers', type=int, default=2, help='threads that read ahead, and one that writes; 0: none; default: 2'
    )
    add_flags(parser)
    detection = parser.add_argument_group('detection only')
    detection.add_argument(
        '--pred-score-thr',
        type=float,
        help='least score of objects in vis, yolo, labelme, masks and crops; json, coco and csv have all; default: 0.3',
    )
    detection.add_argument(
        '--palette', choices=['coco', 'voc', 'citys', 'random', 'none'], help="default: none, the data set's own"
    )
    segmentation = parser.add_argument_group('segmentation only')
    segmentation.add_argument('--opacity', type=float, help='of the class colours, in (0, 1]; default: 0.5')
    segmentation.add_argument('--with-labels', action='store_true', default=None, help='write class names into them')
    for flags in (['--texts'], ['-c', '--custom-entities'], ['-s', '--chunked-size'], ['-p', '--tokens-positive']):
        parser.add_argument(*flags, nargs='*', action=_Refused, help=argparse.SUPPRESS)
    return parser


def _tell_words_apart(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Finds the model among the words: the first that ends in .py, else the last config, else the last packed model."""
    words = args.words
    at = next((i for i, word in enumerate(words) if word.endswith('.py')), None)
    if at is None:
        places = range(len(words) - 1, -1, -1)
        at = next((i for is_model in (_is_config, is_packed) for i in places if is_model(words[i])), None)
    if at is None:  # a typo, where a model should be
        has_checkpoint = not args.weights and bool(Path(words[-1]).suffix)
        at = max(len(words) - (2 if has_checkpoint else 1), 0)
        if Path(words[at]).suffix:
            parser.error('MODEL must be a config file (.py) or a recipe; a config inside a checkpoint is never read')
    args.inputs, args.model, rest = words[:at], words[at], words[at + 1 :]
    if not args.inputs:
        parser.error('INPUTS must come before MODEL: image files, folders or glob patterns')
    if args.weights:
        rest = [args.weights, *rest]
    if len(rest) > 1:
        parser.error(f'at most one CHECKPOINT must be given, got {", ".join(rest)}')
    args.weights = rest[0] if rest else None


def _is_config(word: str) -> bool:
    try:
        return find_config(word).suffix == '.py'
    except PreflightError:
        return False


def check_flags(args: argparse.Namespace, cfg: Config) -> None:
    """Raises ValueError for a flag or a format that the task of ``cfg`` has no use for."""
    task = _task(cfg)
    flags = [(flag_of(name), only) for name, only in TASK_FLAGS.items() if getattr(args, name) is not None]
    flags += [(f'--save {name}', FORMATS[name].tasks[0]) for name in args.save if task not in FORMATS[name].tasks]
    for flag, only in flags:
        if task != only:
            raise ValueError(f'{flag} is for {only} only, but {args.model} is for {task}')


def _task(cfg: Config) -> str:
    return 'segmentation' if cfg.get('default_scope') == 'mmseg' else 'detection'


def set_up(args: argparse.Namespace) -> tuple[list[Path], Detector | Segmentor, Writer]:
    """Finds the images, loads the model and opens the outputs; refuses before it loads if it can."""
    if args.show:
        check_display()
    cfg, weights = named_model(args.model, args.weights)
    check_flags(args, cfg)
    paths = find_images(args.inputs, image_reader(cfg).suffixes)
    journal = open_journal(args, cfg, paths)
    if journal:
        _say(f'{len(journal)} of {len(paths)} pictures are written already')
    model = (Segmentor if _task(cfg) == 'segmentation' else Detector)(cfg, weights, args.device, args.max_pixels)
    return paths, model, open_writer(args, model, journal)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an input or the model cannot be used, 130 after Ctrl-C."""
    args = parse_args(argv)
    paths: list[Path] = []
    failed: list[str] = []
    try:
        paths, model, writer = set_up(args)
        for reason in write(args, paths, model, writer):
            failed.append(shown(reason))
        status = 1 if failed else 0
    except BrokenPipeError:
        raise
    except (PreflightError, OSError, ValueError) as error:
        _say(str(error))
        status = 1
    except KeyboardInterrupt:
        _say('interrupted: the files printed above are whole, and --resume goes on behind them')
        status = INTERRUPTED
    if failed:
        _say(f'{len(failed)} of {len(paths)} pictures have no result:', *failed)
    return status


def _say(*lines: str) -> None:
    for line in lines:
        print(f'{program()}: {line}', file=sys.stderr)
