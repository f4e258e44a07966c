"""Results as JSON, under the names of the files that ``swin-mm predict`` writes; maps are PNGs inside it."""

import base64
import colorsys
import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..outputs.predictions import as_json, panoptic_colours
from ..predictors import Predictor
from ..results import Detections, Segmentation

PREVIEW = 1600  # pixels of the longer side


def describe(name: str, model: Predictor) -> dict[str, Any]:
    """What the page shows of a model before it is used: its classes, and a colour in RGB for each."""
    classes, palette = list(model.classes), model.dataset_meta['palette']
    if palette == 'random' or len(palette) < len(classes):
        palette = [_colour(index) for index in range(len(classes))]
    colours = [[int(value) for value in colour] for colour in palette[: len(classes)]]
    task = 'segmentation' if model.scope == 'mmseg' else 'detection'
    return dict(name=name, task=task, classes=classes, colours=colours)


def to_json(found: Detections | Segmentation, score: float) -> dict[str, Any]:
    """``found``, of detections those with ``score`` or more; a map of classes or segments is a PNG in base64."""
    if isinstance(found, Segmentation):
        return as_json(found) | dict(sem_seg_png=_png(found.labels.astype(np.uint8)))
    result = as_json(replace(found, masks=None).filter(score))  # a copy of the masks could take gigabytes
    if found.masks is not None:
        wanted = found.scores >= score
        result['masks'] = [code for code, keep in zip(found.run_lengths, wanted, strict=True) if keep]
    if found.panoptic is not None:
        result['panoptic_seg_png'] = _png(panoptic_colours(found.panoptic))
    return result


def preview(pixels: np.ndarray) -> str:
    """A JPEG in base64 of ``pixels`` (height, width, 3) in RGB, its longer side at most 1600 pixels."""
    return base64.b64encode(jpeg(pixels)).decode()


def jpeg(pixels: np.ndarray) -> bytes:
    """A JPEG of ``pixels`` (height, width, 3) in RGB, its longer side at most 1600 pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((PREVIEW, PREVIEW))
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=90)
    return file.getvalue()


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return base64.b64encode(file.getvalue()).decode()


def _colour(index: int) -> list[int]:
    """Hues a golden angle apart, so that neighbours differ."""
    return [round(255 * part) for part in colorsys.hsv_to_rgb(index * 0.381966 % 1, 0.75, 0.9)]
