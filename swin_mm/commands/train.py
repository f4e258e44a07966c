"""Trains the model of a config: flags as in mmdet 3.3's tools/train.py, for detection and segmentation."""

import argparse
import os
import sys
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from ..datasets.checks import Screen, check_data
from ..engine.newest import agreed_checkpoint, checkpoint_folders
from ..engine.preflight import batch_advice, check_inputs, check_label_classes, check_mixed_precision, check_strategy
from ..errors import PreflightError
from ..recipes import short_name
from . import init, launch


def main(argv: Sequence[str] | None = None) -> None:
    """Trains as ``argv`` (None: the command line) says; raises PreflightError if the run cannot start."""
    parser = _make_parser()
    args = parser.parse_args(argv)
    if args.data is not None:
        args.config = launch.by_the_first(args.launcher, lambda: init.write(args.data, args.config))
    elif args.config is None:
        parser.error('a config, or --data FOLDER, is needed')
    cfg = launch.load_config(args)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        _scale_lr(cfg)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume

    check_mixed_precision(cfg)
    check_strategy(cfg)
    check_label_classes(cfg)
    check_inputs(cfg, training=True)
    found = _check_data(cfg)
    runner = launch.build_runner(cfg, continued='ContinuedRun', stop='StopOnSignal', curves='TrainingCurves')
    _scale_by_step(runner, cfg)
    notes = _choose_checkpoint(runner)
    advice = batch_advice(cfg, runner.world_size)
    runner.register_hook(Notes([*([advice] if advice else []), *found, *notes]))
    runner.train()


def _make_parser() -> argparse.ArgumentParser:
    parser = launch.make_parser('Train a model', nargs='?')
    parser.add_argument(
        '--data',
        help='folder of your own data: writes a config for them as `swin-mm init` does, for the recipe that CONFIG '
        'names, if it names one, and trains it',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision training, on a GPU')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path from the newest whole one in the work dir, or from the start '
        'if there is none',
    )
    return parser


class Notes(Hook):
    """Logs ``lines`` as warnings right before the first iteration, below everything that mmengine logs on its way."""

    def __init__(self, lines: list[str]):
        self.lines = lines

    def before_train(self, runner: Runner) -> None:
        """Logs them."""
        for line in self.lines:
            runner.logger.warning(line)


def _check_data(cfg: Config) -> list[str]:
    """Gives the warnings of `check_data`; raises PreflightError for its errors. The first process checks for all."""
    if os.environ.get('RANK', '0') != '0':
        return []
    found = check_data(cfg, [loop for loop in ('train', 'val') if cfg.get(f'{loop}_cfg')], screen=Screen(sys.stderr))
    if found.of('error'):
        lines = [f'this run cannot start, {found.summary()} in its data:', *found.lines(['error'])]
        advice = f'`swin-mm check {short_name(cfg.filename)}` checks again, and shows warnings and notes too'
        raise PreflightError('\n'.join([*lines, advice]))
    return list(found.lines(['warning']))


def _scale_lr(cfg: Config) -> None:
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise PreflightError(
            '--auto-scale-lr needs the batch size that the learning rate was chosen for: '
            f'{cfg.filename} must set auto_scale_lr=dict(enable=False, base_batch_size=...)'
        )
    cfg.auto_scale_lr.enable = True


def _scale_by_step(runner: Runner, cfg: Config) -> None:
    """Lets mmengine scale the learning rate by the images of a step, where it takes those of an iteration."""
    counts = cfg.optim_wrapper.get('accumulative_counts', 1)
    scale = cfg.get('auto_scale_lr') or {}
    if not scale.get('enable') or counts == 1:
        return
    base = scale['base_batch_size']
    runner.logger.info(f'{counts} iterations a step: their share of a batch of {base} images is {base / counts:g}')
    owner, name = (runner, 'auto_scale_lr') if isinstance(runner, Runner) else (runner.strategy, '_auto_scale_lr')
    setattr(owner, name, dict(scale, base_batch_size=base / counts))


def _choose_checkpoint(runner: Runner) -> list[str]:
    """Says where a run goes on that is to go on from the newest checkpoint; raises PreflightError if all are broken."""
    if not runner._resume or runner._load_from:
        return []
    saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    checkpoint, faults = agreed_checkpoint(*checkpoint_folders(runner.work_dir, getattr(saver, 'out_dir', None)))
    if checkpoint is not None:
        runner._load_from = str(checkpoint)
        return [*faults, f'so the run goes on from {checkpoint}'] if faults else []
    if faults:
        raise PreflightError(
            '\n  '.join([f'no checkpoint in {runner.work_dir} can be resumed:', *faults])
            + '\nName one with --resume CHECKPOINT, or start over in another folder with --work-dir'
        )
    runner._resume = False
    return [f'NOTHING TO RESUME in {runner.work_dir}: training starts from the beginning']
