"""Results as JSON, under the names of the files that ``swin-mm predict`` writes; maps are PNGs inside it."""

import base64
import colorsys
import io
from typing import Any

import numpy as np
from PIL import Image

from ..predictors import Predictor
from ..results import Detections, Panoptic, Segmentation

PREVIEW = 1600  # pixels of the longer side


def describe(name: str, model: Predictor) -> dict[str, Any]:
    """What the page shows of a model before it is used: its classes, and a colour in RGB for each."""
    classes, palette = list(model.classes), model.dataset_meta['palette']
    if palette == 'random' or len(palette) < len(classes):
        palette = [_colour(index) for index in range(len(classes))]
    colours = [[int(value) for value in colour] for colour in palette[: len(classes)]]
    task = 'segmentation' if model.scope == 'mmseg' else 'detection'
    return dict(name=name, task=task, classes=classes, colours=colours)


def to_json(found: Detections | Segmentation, classes: list[str], score: float) -> dict[str, Any]:
    """``found``, of detections those with ``score`` or more; a map of classes or segments is a PNG in base64."""
    if isinstance(found, Segmentation):
        labels = {name: classes.index(name) for name in found.shares}
        return dict(shares=found.shares, labels=labels, sem_seg_png=_png(found.labels.astype(np.uint8)))
    return _objects(found, score) | ({} if found.panoptic is None else _segments(found.panoptic))


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


def _objects(found: Detections, score: float) -> dict[str, Any]:
    from mmdet.structures.mask import encode_mask_results

    some = found.scores >= score
    result: dict[str, Any] = dict(
        labels=found.labels[some].tolist(),
        label_names=[name for name, wanted in zip(found.names, some, strict=True) if wanted],
        scores=found.scores[some].tolist(),
        bboxes=found.boxes[some].tolist(),
    )
    if found.masks is not None:
        codes = encode_mask_results([found.masks[i] for i in some.nonzero()[0]])  # views: a copy could take gigabytes
        result['masks'] = [{**code, 'counts': code['counts'].decode()} for code in codes]
    return result


def _segments(panoptic: Panoptic) -> dict[str, Any]:
    """As COCO has them: the colour of a pixel is the number of its segment, red + 256 green + 65536 blue, or 0."""
    numbers = np.append(panoptic.ids, 0)[panoptic.segments]
    colours = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    numbered = zip(panoptic.ids.tolist(), panoptic.labels.tolist(), panoptic.names, strict=True)
    return dict(
        panoptic_seg_png=_png(colours),
        segments_info=[dict(id=i, label=label, label_name=name) for i, label, name in numbered],
    )


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return base64.b64encode(file.getvalue()).decode()


def _colour(index: int) -> list[int]:
    """Hues a golden angle apart, so that neighbours differ."""
    return [round(255 * part) for part in colorsys.hsv_to_rgb(index * 0.381966 % 1, 0.75, 0.9)]
