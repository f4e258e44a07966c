"""Draws what a trained detector or segmentor finds in images and writes its predictions; flags as in mmdet's demo.

swin-mm predict street.jpg mask_rcnn_swin_t              # with the weights that were published for the recipe
swin-mm predict street.jpg mask_rcnn_swin_t CHECKPOINT
swin-mm predict FOLDER 'more/*.jpg' CONFIG.py --weights CHECKPOINT --out-dir outputs
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import PreflightError
from ..inference import Detector, Segmentor
from ..inference.drawing import OPACITY, SCORE, DetectionWriter, SegmentationWriter, Writer, check_display
from ..inference.images import MAX_PIXELS, check_max_pixels
from ..inference.loading import image_reader
from ..inference.naming import named_model
from ..inference.packed import is_packed
from ..inference.sources import UniqueNames, find_images
from ..recipes import find_config
from . import launch
from .ending import INTERRUPTED, program

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
    parser.add_argument('--show', action='store_true', help='show the drawn images in a window')
    parser.add_argument('--no-save-vis', action='store_true', help='do not write OUT_DIR/vis')
    parser.add_argument('--no-save-pred', action='store_true', help='do not write OUT_DIR/preds')
    parser.add_argument('--print-result', action='store_true', help='print the predictions')
    detection = parser.add_argument_group('detection only')
    detection.add_argument('--pred-score-thr', type=float, help='draw from this score on; default: 0.3')
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
    """Raises ValueError for a flag that the task of ``cfg`` has no use for."""
    task = 'segmentation' if cfg.get('default_scope') == 'mmseg' else 'detection'
    for name, only in TASK_FLAGS.items():
        if getattr(args, name) is not None and task != only:
            flag = '--' + name.replace('_', '-')
            raise ValueError(f'{flag} is for {only} only, but {args.model} is for {task}')


def set_up(args: argparse.Namespace) -> tuple[list[Path], Detector | Segmentor, Writer]:
    """Finds the images, loads the model and makes the writer of its results; refuses before it loads if it can."""
    if args.show:
        check_display()
    cfg, weights = named_model(args.model, args.weights)
    check_flags(args, cfg)
    paths = find_images(args.inputs, image_reader(cfg).suffixes)
    for folder, unwanted in (('vis', args.no_save_vis), ('preds', args.no_save_pred)):
        if not unwanted:
            _make_folder(Path(args.out_dir, folder))
    task = Segmentor if cfg.get('default_scope') == 'mmseg' else Detector
    model = task(cfg, weights, args.device, args.max_pixels)
    return paths, model, _writer(args, model)


def _writer(args: argparse.Namespace, model: Detector | Segmentor) -> Writer:
    output = dict(draw=not args.no_save_vis, save=not args.no_save_pred, show=args.show, print_result=args.print_result)
    if isinstance(model, Segmentor):
        opacity = OPACITY if args.opacity is None else args.opacity
        return SegmentationWriter(model, args.out_dir, opacity=opacity, with_labels=bool(args.with_labels), **output)
    score = SCORE if args.pred_score_thr is None else args.pred_score_thr
    palette = None if args.palette == 'none' else args.palette
    return DetectionWriter(model, args.out_dir, score=score, palette=palette, **output)


def draw(paths: list[Path], model: Detector | Segmentor, writer: Writer, batch_size: int) -> Iterator[str]:
    """Writes and prints the files of each image; yields the reason for each that has no result."""
    names = UniqueNames()
    for path, found in zip(paths, model.stream(paths, batch_size), strict=True):
        name = names.name(path)
        if isinstance(found, Exception):
            yield str(found)
            continue
        try:
            written = list(writer.write(name, *found))
        except Exception as error:  # a full disk, or what a drawing library says of one picture
            yield f'{path}: found, but not written: {type(error).__name__}: {error}'
            continue
        for file in written:
            print(_shown(str(file)))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an input or the model cannot be used, 130 after Ctrl-C."""
    args = parse_args(argv)
    paths: list[Path] = []
    failed: list[str] = []
    try:
        paths, model, writer = set_up(args)
        for reason in draw(paths, model, writer, args.batch_size):
            failed.append(_shown(reason))
        status = 1 if failed else 0
    except BrokenPipeError:
        raise
    except (PreflightError, OSError, ValueError) as error:
        _say(str(error))
        status = 1
    except KeyboardInterrupt:
        _say('interrupted: the files printed above are whole')
        status = INTERRUPTED
    if failed:
        _say(f'{len(failed)} of {len(paths)} pictures have no result:', *failed)
    return status


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f'--out-dir must be a folder that can be written to, got {folder}: {error.strerror}') from error


def _say(*lines: str) -> None:
    for line in lines:
        print(f'{program()}: {line}', file=sys.stderr)


def _shown(text: str) -> str:
    """``text`` on one line of any terminal: a file may have any name."""
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
