"""``swin-mm check``: what is wrong with the data sets of a config, see ``datasets/checks/``.

swin-mm check cats.py
swin-mm check mask_rcnn_swin_t --images --cfg-options data_root=/path/to/coco/
swin-mm check cats.py --fix mended
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from ..datasets.checks import Findings, Screen, check_data, fix_data, write_report
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
    parser.add_argument(
        '--fix',
        metavar='FOLDER',
        help='write mended copies of the annotations, and a config that reads them, to a new folder; check that config',
    )
    launch.add_cfg_options(parser)
    args = parser.parse_args(argv)
    cfg = launch.read_config(args.config, args.cfg_options)
    screen = Screen(sys.stderr)
    name, fixed = args.config, Findings()
    if args.fix:
        fixed = fix_data(cfg, Path(args.fix), args.images, screen)
        name = _write_config(cfg, Path(args.fix), args.config) if fixed.rows else name
    found = check_data(cfg, decode=args.images, screen=screen)
    if args.report:
        _write_report(found, args.report, name)
    if args.json:
        fixes = dict(fixed=fixed.as_json(['fixed'])['findings']) if args.fix else {}
        print(json.dumps(found.as_json() | fixes, indent=2))
    else:
        for line in fixed.lines(['fixed']):
            print(line)
        if args.fix:
            print(f'Mended: {name}, checked below' if fixed.rows else 'Nothing to mend: nothing was written')
        for line in found.lines():
            print(line)
        print(f'{name}: {found.summary()}')
    return 1 if found.of('error') else 0


def _write_config(cfg: Config, folder: Path, config: str) -> str:
    """Writes ``cfg``, whose data sets were mended, as what differs from its file; gives the path."""
    path = folder / f'{Path(cfg.filename).stem}.py'
    head = f'# Written by `swin-mm check {config} --fix {folder}`: the same with mended annotations.\n'
    if Config._is_lazy_import(cfg.filename):  # a text config cannot inherit from one in Python's own syntax
        path.write_text(head + cfg.pretty_text)
    else:
        changes = _changes(Config.fromfile(cfg.filename).to_dict(), cfg.to_dict())
        path.write_text(f'{head}_base_ = {str(Path(cfg.filename).resolve())!r}\n{Config(changes).pretty_text}')
    return str(path)


def _changes(old: dict, new: dict) -> dict:
    """The settings that make ``new`` of ``old`` when mmengine merges them."""
    if set(old) - set(new):
        return dict(new, _delete_=True)
    changed = {}
    for key, value in new.items():
        if key not in old or type(value) is not type(old[key]):
            changed[key] = value
        elif value != old[key]:
            changed[key] = _changes(old[key], value) if isinstance(value, dict) else value
    return changed


def _write_report(found: Findings, path: str, config: str) -> None:
    try:
        write_report(found, path, f'swin-mm check {config}')
    except OSError as error:
        raise PreflightError(f'--report must be a file that can be written, got {path}: {error.strerror}') from error
