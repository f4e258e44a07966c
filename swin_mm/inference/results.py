"""What is found in an image, as plain arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Panoptic:
    """The segment that each pixel of an image belongs to: an object, or all that is of a class such as sky.

    ``segments`` (height, width) int64: indices of the S segments, -1 where none was found. ``labels`` (S,): indices of
    the detector's classes. ``names``: their names. ``ids`` (S,): mmdet's numbers, the label plus 1000 times the number
    of the object, which counts from 1; 0 times for what is no object.
    """

    segments: np.ndarray
    labels: np.ndarray
    names: list[str]
    ids: np.ndarray


@dataclass(frozen=True)
class Detections:
    """The N objects found in an image, best first.

    ``boxes`` (N, 4) as (x1, y1, x2, y2) in pixels of the image. ``scores`` (N,): probabilities. ``labels`` (N,):
    indices of the detector's classes. ``names``: their names. ``masks`` (N, height, width): booleans, None for a model
    that finds boxes only. ``panoptic``: the segments of the whole image, None for a model that finds objects only; one
    that gives nothing else has N=0. ``sample``: mmdet's own result, which its visualiser draws.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: np.ndarray | None
    panoptic: Panoptic | None
    sample: Any


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of an image.

    ``labels`` (height, width) int64: indices of the segmentor's classes. ``shares``: the part of the pixels that each
    class has, the largest first; they sum to 1. ``sample``: mmseg's own result, which its visualiser draws, without
    the logits, which with 150 classes are 600 bytes a pixel.
    """

    labels: np.ndarray
    shares: dict[str, float]
    sample: Any
