"""Draws what a trained model looks at in an image: class activation maps, attention of a token, receptive fields.

swin-mm explain street.jpg mask_rcnn_swin_t --out explained
swin-mm explain street.jpg upernet_swin_t CHECKPOINT --point 320 200 --class car
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import PreflightError, shortlist
from ..explain.activation import best_class
from ..explain.sheets import activation_sheet, attention_sheets, field_sheet, write_sheet
from ..explain.view import see
from ..inference import Detector, Segmentor
from ..inference.naming import named_model
from . import launch


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with status 2 if it makes no sense."""
    parser = argparse.ArgumentParser(description='Draw what a trained model looks at in an image.')
    parser.add_argument('image', help='an image file')
    parser.add_argument('model', help=launch.CONFIG_HELP)
    parser.add_argument(
        'weights',
        nargs='?',
        help='checkpoint file, URL or hf://OWNER/NAME; default: the weights that were published for the recipe',
    )
    launch.add_cache(parser)
    parser.add_argument('--out', default='explained', metavar='FOLDER', help='default: explained')
    parser.add_argument(
        '--point',
        nargs=2,
        type=float,
        metavar=('X', 'Y'),
        help='in pixels of the image; default: its centre',
    )
    parser.add_argument('--class', dest='name', metavar='NAME', help='what Grad-CAM explains; default: the best found')
    parser.add_argument('--device', help='default: the GPU if there is one')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the sheets and prints their paths; returns the exit status, 1 if an input or the model cannot be used."""
    args = parse_args(argv)
    try:
        for path in explain(args):
            print(path)
    except (OSError, ValueError) as error:
        raise PreflightError(str(error)) from error
    return 0


def explain(args: argparse.Namespace) -> Iterator[Path]:
    """Writes the sheets of the image; yields their paths."""
    cfg, weights = named_model(args.model, args.weights)
    task = Segmentor if cfg.get('default_scope') == 'mmseg' else Detector
    predictor = task(cfg, weights, args.device)
    if args.name is not None and args.name not in predictor.classes:
        raise ValueError(f'--class must be one of {shortlist(predictor.classes)}, got {args.name}')
    view = see(predictor, args.image)
    backbone, point = predictor.model.backbone, tuple(args.point or _centre(view.pixels))
    view.place(point, (1, 1))  # refused before an hour of a large model
    label = best_class(predictor, view) if args.name is None else predictor.classes.index(args.name)

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    stages = len(backbone.out_indices)
    yield write_sheet(folder / 'activation.png', view.pixels, activation_sheet(predictor, view, label), stages)
    for stage, sheet in attention_sheets(backbone, view, point).items():
        yield write_sheet(folder / f'attention_stage{stage + 1}.png', view.pixels, sheet)
    yield write_sheet(folder / 'receptive_field.png', view.pixels, field_sheet(backbone, view, point), stages)


def _centre(pixels) -> tuple[float, float]:
    height, width = pixels.shape[:2]
    return width / 2, height / 2
