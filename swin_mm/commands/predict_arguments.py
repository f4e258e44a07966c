"""The command line of ``swin-mm predict``: flags as in mmdet's demo, and its words told apart."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import PreflightError
from ..inference.images import MAX_PIXELS, check_max_pixels
from ..inference.outputs import FORMATS
from ..inference.packed import is_packed
from ..inference.predictors import PRECISIONS
from ..inference.sources import part_of
from ..inference.tiles import tile_rows
from ..recipes import find_config
from . import launch, on_cluster
from .predict_outputs import add_flags, flag_of

OVERLAP = 0.2  # of tiles
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
    on_cluster.check_flags(parser, args)
    if args.batch_size < 1:
        parser.error(f'--batch-size must be at least 1, got {args.batch_size}')
    if args.every < 1:
        parser.error(f'--every must be at least 1, got {args.every}')
    if args.workers is not None and args.workers < 0:
        parser.error(f'--workers must be at least 0, got {args.workers}')
    if args.opacity is not None and not 0 < args.opacity <= 1:
        parser.error(f'--opacity must be in (0, 1], got {args.opacity:g}')
    try:
        check_max_pixels(args.max_pixels)
        part_of(args.shard)
        if args.tile is not None:
            tile_rows(args.tile, args.tile, args.tile, args.overlap)
        elif args.overlap != OVERLAP:
            raise ValueError('--overlap is that of tiles: it needs --tile')
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
        help='image files, folders, glob patterns, URLs, videos, camera:0, frames/%%05d.png, lists (.txt, or - for '
        'standard input); a config file (.py), a recipe or a packed model (folder or hf://OWNER/NAME); the checkpoint, '
        'or --weights; without one, the weights that go with the name',
    )
    parser.add_argument('--weights', help='checkpoint file, URL or hf://OWNER/NAME')
    launch.add_cache(parser)
    parser.add_argument('--out-dir', default='outputs', help='default: outputs')
    parser.add_argument('--device', help='default: the GPU if there is one')
    parser.add_argument(
        '--max-pixels', type=int, default=MAX_PIXELS, help=f'larger pictures are not decoded; default: {MAX_PIXELS}'
    )
    add_flags(parser)
    _add_speed(parser.add_argument_group('speed'))
    _add_sources(parser.add_argument_group('videos, shares and huge images'))
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
    on_cluster.add_flags(parser)
    for flags in (['--texts'], ['-c', '--custom-entities'], ['-s', '--chunked-size'], ['-p', '--tokens-positive']):
        parser.add_argument(*flags, nargs='*', action=_Refused, help=argparse.SUPPRESS)
    return parser


def _add_speed(group: argparse._ArgumentGroup) -> None:
    group.add_argument('--batch-size', type=int, default=1)
    group.add_argument(
        '--workers',
        type=int,
        help='threads that read ahead, and one that writes; 0: none; default: 2 with a GPU, else 0',
    )
    group.add_argument('--precision', choices=list(PRECISIONS), default='fp32', help='of products; default: fp32')
    group.add_argument('--compile', action='store_true', help='have PyTorch compile the backbone')
    group.add_argument('--profile', action='store_true', help='say at the end where the time went')


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument('--every', type=int, default=1, metavar='N', help='take each N-th frame of a video; default: 1')
    group.add_argument('--video', action='store_true', help='the images of a folder are the frames of a video')
    group.add_argument('--shard', default='1/1', metavar='K/N', help='take the Kth of N parts: a process a GPU')
    group.add_argument(
        '--tile', type=int, metavar='SIDE', help='read and predict huge images in tiles of so many pixels'
    )
    group.add_argument(
        '--overlap', type=float, default=OVERLAP, help=f'share of a tile that its neighbour sees; default: {OVERLAP}'
    )


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
    task = task_of(cfg)
    flags = [(flag_of(name), only) for name, only in TASK_FLAGS.items() if getattr(args, name) is not None]
    flags += [(f'--save {name}', FORMATS[name].tasks[0]) for name in args.save if task not in FORMATS[name].tasks]
    for flag, only in flags:
        if task != only:
            raise ValueError(f'{flag} is for {only} only, but {args.model} is for {task}')


def task_of(cfg: Config) -> str:
    """What a config's model does: 'detection' or 'segmentation'."""
    return 'segmentation' if cfg.get('default_scope') == 'mmseg' else 'detection'
