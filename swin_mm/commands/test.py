"""Tests a checkpoint: flags as in mmdet 3.3's tools/test.py, for detection and segmentation."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..engine.preflight import check_inputs, check_label_classes
from ..errors import PreflightError
from ..inference.drawing import SCORE, check_display
from ..inference.images import PILLOW_LIMIT, PictureReader
from ..inference.loading import image_reader
from ..inference.sources import UniqueNames
from ..recipes import datasets_in, type_name
from . import launch

PICKLES = ('.pkl', '.pickle')
FILES = ('.json', *PICKLES)
OUT_HELP = (
    "write the predictions: of a detector in COCO's format, boxes as FILE.bbox.json and masks as FILE.segm.json, or "
    'into one pickle file; of a segmentor into a folder, as one PNG of class indices a picture, all plus 1 where the '
    'data set has reduce_zero_label=True (ADE20K), as in its label files'
)
# The attribute of a metric that makes it write what it measures.
WRITERS = {'CocoMetric': 'outfile_prefix', 'IoUMetric': 'output_dir'}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """The metrics of a test as ``argv`` (None: the command line) says; raises PreflightError if it cannot start."""
    parser = launch.make_parser('Test (and evaluate) a model')
    parser.add_argument('checkpoint', help='checkpoint file, URL or hf://OWNER/NAME')
    parser.add_argument('--out', metavar='FILE.json|FILE.pkl|FOLDER', help=OUT_HELP)
    parser.add_argument('--show', action='store_true', help='show every picture with what was found')
    parser.add_argument('--show-dir', help='draw every picture with what was found, into WORK_DIR/TIMESTAMP/SHOW_DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between two pictures of --show')
    parser.add_argument('--tta', action='store_true', help='merge several views of a picture: tta_pipeline, tta_model')
    args = parser.parse_args(argv)

    cfg = launch.load_config(args)
    detection = cfg.get('default_scope') == 'mmdet'
    _check_flags(args, cfg.get('default_scope'))
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.tta:
        _augment(cfg)
    check_label_classes(cfg)
    check_inputs(cfg, training=False)
    pickled = bool(args.out) and args.out.endswith(PICKLES)
    if args.out and not pickled:
        _write_by_metric(cfg, 'CocoMetric' if detection else 'IoUMetric', args.out.removesuffix('.json'))
    runner = launch.build_runner(cfg)
    if args.show or args.show_dir:
        runner.register_hook(DrawResults(cfg, args.show_dir, args.show, args.wait_time))
    if pickled:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    return runner.test()


class DrawResults(Hook):
    """Draws every picture, what is to be found beside what is found, as ``cfg`` reads the one and draws the other.

    mmdet's own hook overwrites pictures of one name in different folders. mmseg's takes each 50th, elsewhere and under
    other names, and cannot write and show in one run.
    """

    def __init__(self, cfg: Config, folder: str | None, show: bool, wait_time: float):
        self.reader, self.options = image_reader(cfg), _drawing_options(cfg)
        self.folder, self.show, self.wait_time = folder, show, wait_time
        self.names = UniqueNames()

    def before_test(self, runner: Runner) -> None:
        """Keeps a picture that is only shown from being written among the logs."""
        if self.folder is None:
            runner.visualizer._vis_backends = {}

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draws one batch."""
        for sample in outputs:
            name, suffix = self.names.name(sample.img_path), os.path.splitext(sample.img_path)[1]
            name += suffix if isinstance(self.reader, PictureReader) else '.png'
            file = self.folder and os.path.join(runner.work_dir, runner.timestamp, self.folder, name)
            image = np.ascontiguousarray(self.reader.to_rgb(self.reader.read(sample.img_path, PILLOW_LIMIT)))
            runner.visualizer.add_datasample(
                name, image, sample, show=self.show, wait_time=self.wait_time, out_file=file, **self.options
            )


def _drawing_options(cfg: Config) -> dict[str, Any]:
    """The score to draw from, if the model is a detector: of mmdet's hook in ``cfg``, or as ``predict`` has it."""
    if cfg.get('default_scope') != 'mmdet':
        return {}
    hook = cfg.get('default_hooks', {}).get('visualization') or {}
    return {'pred_score_thr': hook.get('score_thr', SCORE)}


def _check_flags(args, scope: str | None) -> None:
    for flag in ('out', 'show', 'show_dir', 'tta'):
        option = '--' + flag.replace('_', '-')
        if getattr(args, flag) and scope not in ('mmdet', 'mmseg'):
            raise PreflightError(f'{option} works with detectors and segmentors only, got default_scope={scope}')
        if getattr(args, flag) and flag.startswith('show') and args.launcher != 'none':
            raise PreflightError(f'{option} draws what the first process tests only: run it by itself')
    if args.out and scope == 'mmdet' and (not args.out.endswith(FILES) or os.path.isdir(args.out)):
        raise PreflightError(f'--out must end in {", ".join(FILES)} and be no folder for a detector, got {args.out}')
    if args.out and scope == 'mmseg' and (args.out.endswith(FILES) or os.path.isfile(args.out)):
        raise PreflightError(f'--out must be a folder for a segmentor, got {args.out}')
    if args.show:
        check_display()


def _augment(cfg: Config) -> None:
    """Lets ``cfg`` test with the views of its ``tta_pipeline``, merged by its ``tta_model``."""
    missing = [key for key in ('tta_pipeline', 'tta_model') if not cfg.get(key)]
    if missing:
        raise PreflightError(
            f'--tta needs {" and ".join(missing)} in {cfg.filename}: see configs/_base_/datasets/coco_instance.py or '
            'ade20k.py for the one, configs/_base_/detection_runtime.py or segmentation_runtime.py for the other'
        )
    for dataset in datasets_in(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)


def _write_by_metric(cfg: Config, name: str, path: str) -> None:
    """Lets the metric of that name in ``cfg`` write what it measures to ``path``."""
    metrics = cfg.test_evaluator
    for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
        if type_name(metric) == name:
            metric[WRITERS[name]] = path
            return
    advice = ', or a name that ends in .pkl' if name == 'CocoMetric' else ''
    raise PreflightError(f'--out needs {name} in test_evaluator, which writes the files{advice}, got {metrics}')
