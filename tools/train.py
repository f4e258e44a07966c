"""Trains the model of a config: flags as in mmdet 3.3's tools/train.py, for detection and segmentation."""

from collections.abc import Sequence
from pathlib import Path

import launch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from swin_mm.engine.preflight import (
    PreflightError,
    batch_advice,
    check_inputs,
    check_label_classes,
    check_mixed_precision,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains as ``argv`` (None: the command line) says; raises PreflightError if the run cannot start."""
    parser = launch.make_parser('Train a model')
    parser.add_argument('--amp', action='store_true', help='mixed precision training, on a GPU')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path from the last one in the work dir, or from the start if none',
    )
    args = parser.parse_args(argv)
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
    check_label_classes(cfg)
    check_inputs(cfg, training=True)
    fresh = _nothing_to_resume(cfg)
    runner = launch.build_runner(cfg)
    notes = [batch_advice(cfg, runner.world_size)]
    if fresh:
        notes.append(f'NOTHING TO RESUME in {runner.work_dir}: training starts from the beginning')
    runner.register_hook(Notes([note for note in notes if note]))
    runner.train()


class Notes(Hook):
    """Logs ``lines`` as warnings right before the first iteration, below everything that mmengine logs on its way."""

    def __init__(self, lines: list[str]):
        self.lines = lines

    def before_train(self, runner: Runner) -> None:
        """Logs them."""
        for line in self.lines:
            runner.logger.warning(line)


def _scale_lr(cfg: Config) -> None:
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise PreflightError(
            '--auto-scale-lr needs the batch size that the learning rate was chosen for: '
            f'{cfg.filename} must set auto_scale_lr=dict(enable=False, base_batch_size=...)'
        )
    cfg.auto_scale_lr.enable = True


def _nothing_to_resume(cfg: Config) -> bool:
    """True if the last checkpoint of the work dir is asked for and there is none; raises if it was moved away."""
    if not cfg.get('resume') or cfg.get('load_from'):
        return False
    note = Path(cfg.work_dir, 'last_checkpoint')
    if not note.is_file():
        return True
    checkpoint = note.read_text().strip()
    if not Path(checkpoint).is_file():
        raise PreflightError(f'{note} names {checkpoint}, which is not there: say which one with --resume CHECKPOINT')
    return False


if __name__ == '__main__':
    launch.run(main)
