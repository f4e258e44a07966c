"""Says what went wrong in a test: scores a class, kinds of error, confusions, and images of the worst errors.

swin-mm test cats.py CHECKPOINT --out found.json
swin-mm analyze cats.py found.json
swin-mm analyze land.py FOLDER          # a segmentor's, of swin-mm test land.py CHECKPOINT --out FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..datasets.browsing import Split
from ..datasets.checks.data_sets import has_label_maps, is_coco, is_lvis
from ..errors import PreflightError
from ..inference.drawing import SCORE
from . import launch


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table, writes the files and prints their paths; raises PreflightError for what cannot be analysed."""
    parser = argparse.ArgumentParser(description='Say what went wrong in a test')
    parser.add_argument('config', help=launch.CONFIG_HELP)
    parser.add_argument(
        'predictions', help='what `swin-mm test --out` wrote: FILE.json of a detector, FOLDER of a segmentor'
    )
    parser.add_argument('--out', default='analyzed', metavar='FOLDER', help='default: analyzed')
    parser.add_argument('--pred-score-thr', type=float, help=f'confusions count from this score on; default: {SCORE}')
    launch.add_cfg_options(parser)
    args = parser.parse_args(argv)
    try:
        analysis = analyze(launch.read_config(args.config, args.cfg_options), args)
        for line in analysis.lines():
            print(line)
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        for path in analysis.write(folder):
            print(path)
    except (OSError, ValueError) as error:
        raise PreflightError(str(error)) from error


def analyze(cfg: Config, args: argparse.Namespace) -> Any:
    """Compares the predictions with the data that ``cfg`` tests on, or else validates on."""
    split = Split(cfg, 'test' if cfg.get('test_dataloader') else 'val')
    if is_coco(split.dataset) and not is_lvis(split.dataset):
        from ..datasets.analysis.detection import DetectionAnalysis

        score = SCORE if args.pred_score_thr is None else args.pred_score_thr
        return DetectionAnalysis(split, Path(args.predictions), score)
    if has_label_maps(split.dataset):
        from ..datasets.analysis.segmentation import SegmentationAnalysis

        if args.pred_score_thr is not None:
            raise PreflightError(f'--pred-score-thr is for detection only, but {args.config} is for segmentation')
        return SegmentationAnalysis(split, Path(args.predictions))
    raise PreflightError(
        "the data set must be one in COCO's format (CocoDataset) or one of label maps (BaseSegDataset), got "
        f'{type(split.dataset).__name__} in {cfg.filename}'
    )
