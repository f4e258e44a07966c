"""Tests a checkpoint: flags as in mmdet 3.3's tools/test.py."""

from collections.abc import Sequence

import launch

from swin_mm.engine.preflight import PreflightError, check_display, check_inputs


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """The metrics of a test as ``argv`` (None: the command line) says; raises PreflightError if it cannot start."""
    parser = launch.make_parser('Test (and evaluate) a model')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to a pickle file')
    parser.add_argument('--show', action='store_true', help='show the predictions')
    parser.add_argument('--show-dir', help='draw the predictions into WORK_DIR/TIMESTAMP/SHOW_DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between two pictures of --show')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    args = parser.parse_args(argv)
    if args.tta:
        raise PreflightError(
            '--tta is not available: the DetTTAModel of mmdet merges boxes only and refuses instance masks'
        )
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise PreflightError(f'--out must end in .pkl or .pickle, got {args.out}')

    cfg = launch.load_config(args)
    for flag in ('out', 'show', 'show_dir'):
        if getattr(args, flag) and cfg.get('default_scope') != 'mmdet':
            option = '--' + flag.replace('_', '-')
            raise PreflightError(f'{option} works with detectors only, got default_scope={cfg.get("default_scope")}')
    if args.show:
        check_display()
    cfg.load_from = args.checkpoint
    cfg.resume = False
    check_inputs(cfg, training=False)
    if args.show or args.show_dir:
        from mmdet.engine.hooks.utils import trigger_visualization_hook

        cfg = trigger_visualization_hook(cfg, args)
    runner = launch.build_runner(cfg)
    if args.out:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    return runner.test()


if __name__ == '__main__':
    launch.run(main)
