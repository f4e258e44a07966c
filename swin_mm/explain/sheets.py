"""Draws what a model looks at over its image: a sheet a question."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..backbone import SwinTransformer
from ..inference import Detector, Segmentor
from .activation import METHODS, activation_map
from .attention import attention_of
from .receptive_field import receptive_fields
from .view import Point, View, stride_of

COLUMNS = 6
SIDE = 3.2  # inches of one drawing


class Drawing(NamedTuple):
    """``heat`` (height, width) over the image, with a title and the point that it is about; None for no point."""

    title: str
    heat: np.ndarray
    point: Point | None = None


def activation_sheet(predictor: Detector | Segmentor, view: View, label: int) -> list[Drawing]:
    """Draws each method's map of each stage."""
    name = predictor.classes[label]
    return [
        Drawing(
            f'{method}, stage {stage + 1}' + (f': {name}' if method == 'grad-cam' else ''),
            view.on_image(activation_map(predictor, view, method, i, label)),
        )
        for method in METHODS
        for i, stage in enumerate(predictor.model.backbone.out_indices)
    ]


def attention_sheets(backbone: SwinTransformer, view: View, point: Point) -> dict[int, list[Drawing]]:
    """Draws the mean over the heads of the attention of the token at ``point``, each block, by stage."""
    sheets: dict[int, list[Drawing]] = {}
    for found in attention_of(backbone, view, point):
        weights = found.weights.mean(0).cpu().numpy()
        title = f'stage {found.stage + 1}, block {found.block + 1}{", shifted" if found.shifted else ""}'
        heat = view.tokens_on_image(weights, stride_of(backbone, found.stage))
        title += f'\nmost on a token: {weights.max():.2f}'
        sheets.setdefault(found.stage, []).append(Drawing(title, heat, point))
    return sheets


def field_sheet(backbone: SwinTransformer, view: View, point: Point) -> list[Drawing]:
    """Draws the receptive field of the token at ``point`` in each map; its square root, which shows the faint parts."""
    fields = receptive_fields(backbone, view, point)
    return [
        Drawing(f'receptive field, stage {stage + 1}', np.sqrt(view.on_image(field.cpu().numpy())), point)
        for stage, field in zip(backbone.out_indices, fields, strict=True)
    ]


def write_sheet(path: Path, pixels: np.ndarray, drawings: Sequence[Drawing], columns: int = COLUMNS) -> Path:
    """Draws all over ``pixels``, at most so many ``columns`` in a row; gives the path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(drawings), columns)
    rows = -(-len(drawings) // columns)
    height, width = pixels.shape[:2]
    figure = Figure(figsize=(SIDE * columns, (SIDE * height / width + 0.5) * rows), layout='constrained')
    FigureCanvasAgg(figure)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    for place, drawing in zip(figure.subplots(rows, columns, squeeze=False).flat, drawings, strict=False):
        place.imshow(grey, cmap='gray')
        # Where nothing is looked at the image stays as it is.
        strength = drawing.heat / max(float(drawing.heat.max()), 1e-12)
        place.imshow(drawing.heat, cmap='inferno', alpha=0.75 * np.clip(strength, 0, 1) ** 0.5)
        if drawing.point is not None:
            place.plot(*drawing.point, '+', color='cyan', markersize=10)
        place.set_title(drawing.title, fontsize=9)
    for place in figure.axes:
        place.set_axis_off()
    figure.savefig(path, dpi=100)
    return path
