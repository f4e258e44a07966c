"""``swin-mm predict SOURCE MODEL CHECKPOINT --cluster [ADDRESS]``: its flags, and what it prints."""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config

from ..checkpoints.sources import local_file
from ..errors import PreflightError, one_line
from ..inference import Detector, Segmentor
from ..inference.naming import named_model
from .ending import INTERRUPTED, program

FLAGS = ('format', 'images_per_part', 'actors', 'gpus_per_actor')
ALSO = ('inputs', 'model', 'weights', 'words', 'out_dir', 'device', 'batch_size', 'max_pixels', 'cache', 'cluster')


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a cluster."""
    group = parser.add_argument_group('on a cluster of Ray (docs/scale.md)')
    group.add_argument(
        '--cluster',
        nargs='?',
        const='local',
        metavar='ADDRESS',
        help="predict there: 'auto' on one of its machines, HOST:PORT, or without ADDRESS on this machine; INPUTS is a "
        'folder, with all below it, or a text file with an image a line; they and OUT_DIR may be s3://BUCKET/... and '
        'the like; the same command goes on after an interruption',
    )
    group.add_argument('--format', choices=['parquet', 'jsonl'], help='of the results; default: parquet')
    group.add_argument(
        '--images-per-part',
        type=int,
        metavar='N',
        help='images of a file of results, rounded up to four batches; default: 500',
    )
    group.add_argument('--actors', type=int, metavar='N', help='models at work; default: as many as there is room for')
    group.add_argument('--gpus-per-actor', type=float, metavar='X', help='such as 0.5; default: 1 if there are GPUs')


def check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exits with status 2 for flags that do not go together."""
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    if args.cluster is None:
        wrong = [name for name in FLAGS if name in given]
        if wrong:
            parser.error(f'{_flag(wrong[0])} needs --cluster')
        return
    wrong = [name for name in given if name not in FLAGS + ALSO]
    if wrong:
        parser.error(f'{_flag(wrong[0])} does not go with --cluster, which writes tables: see docs/scale.md')
    if len(args.inputs) != 1:
        parser.error(f'--cluster takes one folder or list of images, got {", ".join(args.inputs)}')
    for name in ('images_per_part', 'actors'):
        if name in given and getattr(args, name) < 1:
            parser.error(f'{_flag(name)} must be at least 1, got {getattr(args, name)}')
    gpus = args.gpus_per_actor
    if gpus is not None and (gpus < 0 or (gpus > 1 and gpus % 1)):
        parser.error(f'--gpus-per-actor must be in [0, 1] or a whole number, got {gpus:g}')
    if args.device not in (None, 'cpu'):
        parser.error(f'--device must be cpu with --cluster, or left out, got {args.device}: Ray chooses GPUs')


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 0 if all parts have results, also with images that failed; 1, or 130 after Ctrl-C."""
    try:
        import ray

        from ..inference import cluster
    except ModuleNotFoundError as error:
        raise PreflightError(f"--cluster needs {error.name}: pip install 'swin-mm[cluster]'") from error
    given = {name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None}
    same = {name: getattr(args, name) for name in ('batch_size', 'max_pixels', 'device')}
    settings = cluster.Settings(address=args.cluster, **same, **given)
    failed = 0
    try:
        cfg, weights = _checked(args)
        for progress in cluster.predict(args.inputs[0], cfg, weights, args.out_dir, settings):
            failed += progress.failed or 0
            print(f'{progress.done} of {progress.parts} parts are done, {failed} images failed', flush=True)
    except (OSError, ValueError) as error:
        return _say(str(error))
    except ray.exceptions.RayError as error:
        return _say(
            f'{one_line((str(error).strip().splitlines() or [type(error).__name__])[-1])}: the same command goes on'
        )
    except KeyboardInterrupt:
        _say('interrupted: the same command goes on')
        return INTERRUPTED
    return 0


def _checked(args: argparse.Namespace) -> tuple[Config, Path]:
    """The config and the file of the weights, loaded here once: what cannot work is said before a cluster is asked."""
    cfg, weights = named_model(args.model, args.weights)
    task = Segmentor if cfg.get('default_scope') == 'mmseg' else Detector
    task(cfg, weights, 'cpu', args.max_pixels)
    return cfg, local_file(weights)


def _flag(name: str) -> str:
    return '--' + name.replace('_', '-')


def _say(line: str) -> int:
    print(f'{program()}: {line}', file=sys.stderr)
    return 1
