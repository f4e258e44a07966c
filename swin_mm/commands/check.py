"""``swin-mm check``: what is wrong with the data sets of a config, see ``datasets/checks/``.

swin-mm check cats.py
swin-mm check mask_rcnn_swin_t --images --cfg-options data_root=/path/to/coco/
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from mmengine.utils import ProgressBar

from ..datasets.checks import Findings, check_data, write_report
from ..errors import PreflightError
from . import launch


def main(argv: Sequence[str] | None = None) -> int:
    """Gives the exit status, 1 if there are errors; ``argv`` None is the command line.

    Raises PreflightError if there is no such config, or the report cannot be written.
    """
    parser = argparse.ArgumentParser(description='Check the data sets of a config')
    parser.add_argument('config', help=launch.CONFIG_HELP)
    parser.add_argument('--json', action='store_true', help='print the findings as JSON')
    parser.add_argument('--images', action='store_true', help='decode every image, and not only its header')
    parser.add_argument('--report', metavar='FILE.html', help='write a page that shows the images with faults too')
    launch.add_cfg_options(parser)
    args = parser.parse_args(argv)
    cfg = launch.read_config(args.config, args.cfg_options)
    found = check_data(cfg, decode=args.images, make_progress=_progress if sys.stderr.isatty() else None)
    if args.report:
        _write_report(found, args.report, args.config)
    if args.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        for line in found.lines():
            print(line)
        print(f'{args.config}: {found.summary()}')
    return 1 if found.of('error') else 0


def _write_report(found: Findings, path: str, config: str) -> None:
    try:
        write_report(found, path, f'swin-mm check {config}')
    except OSError as error:
        raise PreflightError(f'--report must be a file that can be written, got {path}: {error.strerror}') from error


def _progress(files: int) -> Callable[[int], None]:
    return ProgressBar(files, file=sys.stderr).update
