"""Draws what a trained detector or segmentor finds in images and writes its predictions; flags as in mmdet 3.3's demo.

python demo/image_demo.py demo/demo.jpg CONFIG --weights CHECKPOINT
python demo/image_demo.py FOLDER 'more/*.jpg' CONFIG CHECKPOINT --out-dir outputs
"""

import argparse
import glob
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if importlib.util.find_spec('swin_mm') is None:
    sys.path.insert(0, str(ROOT))

from mmengine.config import Config  # noqa: E402
from writers import SegmentationWriter, Writer  # noqa: E402

from swin_mm.engine.preflight import PreflightError, check_display, find_config  # noqa: E402
from swin_mm.images import MAX_PIXELS, check_max_pixels  # noqa: E402
from swin_mm.inference import Detector, Segmentor  # noqa: E402

TASK_FLAGS = dict(pred_score_thr='detection', palette='detection', opacity='segmentation', with_labels='segmentation')
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.gif')
INTERRUPTED = 130  # as a shell says it: 128 + SIGINT


class _Refused(argparse.Action):
    """A flag of mmdet's demo that only its text-prompted models (GLIP, Grounding DINO) have a use for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.error(
            f'{"/".join(self.option_strings)} is for text-prompted models (GLIP, Grounding DINO), not this one'
        )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with `inputs`, `model` and `weights` told apart; exits with status 2 if it makes no sense."""
    parser = argparse.ArgumentParser(
        usage='%(prog)s INPUTS... MODEL {CHECKPOINT | --weights CHECKPOINT} [flags]',
        description='Draw what a trained model finds in images, and write its predictions.',
    )
    parser.add_argument(
        'words',
        nargs='+',
        metavar='INPUTS... MODEL [CHECKPOINT]',
        help='image files, folders or glob patterns; the config file (.py); the checkpoint, or give it as --weights',
    )
    parser.add_argument('--weights', help='checkpoint file or URL')
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
    args = parser.parse_intermixed_args(argv)

    at = next((i for i, word in enumerate(args.words) if word.endswith('.py')), None)
    if at is None:
        parser.error('MODEL must be a config file (.py); a config inside a checkpoint is never read')
    args.inputs, args.model, rest = args.words[:at], args.words[at], args.words[at + 1 :]
    if not args.inputs:
        parser.error('INPUTS must come before MODEL: image files, folders or glob patterns')
    if args.weights:
        rest = [args.weights, *rest]
    if len(rest) != 1:
        parser.error(f'one CHECKPOINT must be given, got {", ".join(rest) or "none"}')
    args.weights = rest[0]
    if args.batch_size < 1:
        parser.error(f'--batch-size must be at least 1, got {args.batch_size}')
    if args.opacity is not None and not 0 < args.opacity <= 1:
        parser.error(f'--opacity must be in (0, 1], got {args.opacity:g}')
    try:
        check_max_pixels(args.max_pixels)
    except ValueError as error:
        parser.error(str(error))
    return args


def find_images(inputs: Sequence[str]) -> list[Path]:
    """The image files that ``inputs`` name, each once, folders and patterns in order of name; a plain path as it is."""
    found: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
        elif path.exists() or not glob.has_magic(text):
            images = [path]
        else:
            images = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not images:
            raise FileNotFoundError(f'{text}: no images found')
        found += images
    return list(dict.fromkeys(found))


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name without suffix for each path, numbered where several would be the same."""
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for path in paths:
        name, number = path.stem, numbers.get(path.stem, 2)
        while name in names:
            name, number = f'{path.stem}_{number}', number + 1
        names[name], numbers[path.stem] = None, number
    return list(names)


def check_flags(args: argparse.Namespace, cfg: Config) -> None:
    """Raises ValueError for a flag that the task of ``cfg`` has no use for."""
    task = 'segmentation' if cfg.get('default_scope') == 'mmseg' else 'detection'
    for name, only in TASK_FLAGS.items():
        if getattr(args, name) is not None and task != only:
            flag = '--' + name.replace('_', '-')
            raise ValueError(f'{flag} is for {only} only, but {args.model} is for {task}')


def set_up(args: argparse.Namespace) -> tuple[list[Path], Detector | Segmentor, Writer]:
    """The images that ``args`` name, the model, and the writer of its results; raises before it loads if it can."""
    if args.show:
        check_display()
    paths = find_images(args.inputs)
    cfg = Config.fromfile(find_config(args.model, ROOT))
    check_flags(args, cfg)
    for folder, unwanted in (('vis', args.no_save_vis), ('preds', args.no_save_pred)):
        if not unwanted:
            _make_folder(Path(args.out_dir, folder))
    if cfg.get('default_scope') == 'mmseg':
        segmentor = Segmentor(cfg, args.weights, args.device, args.max_pixels)
        return paths, segmentor, SegmentationWriter(args, segmentor)
    detector = Detector(cfg, args.weights, args.device, args.max_pixels)
    return paths, detector, Writer(args, detector)


def draw(paths: list[Path], model: Detector | Segmentor, writer: Writer, batch_size: int) -> Iterator[str]:
    """Why a picture has no result, for each of those; the files of the others are written and printed."""
    for path, name, found in zip(paths, unique_names(paths), model.each(paths, batch_size), strict=True):
        if isinstance(found, Exception):
            yield str(found)
            continue
        try:
            for written in writer.write(name, *found):
                print(_shown(str(written)))
        except Exception as error:  # a full disk, or what a drawing library says of one picture
            yield f'{path}: found, but not written: {type(error).__name__}: {error}'


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 if an input or the model cannot be used, 130 after Ctrl-C; other inputs are still done."""
    args = parse_args(argv)
    paths: list[Path] = []
    failed: list[str] = []
    try:
        paths, model, writer = set_up(args)
        for reason in draw(paths, model, writer, args.batch_size):
            failed.append(_shown(reason))
        status = 1 if failed else 0
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
        print(f'image_demo.py: {line}', file=sys.stderr)


def _shown(text: str) -> str:
    """``text`` on one line of any terminal: a file may have any name."""
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


if __name__ == '__main__':
    sys.exit(main())
