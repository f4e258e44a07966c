"""An image as a model sees it, and the way back to the image's own pixels."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..backbone import SwinTransformer
from ..inference import Detector, Segmentor
from ..inference.prepared import Image

Point = tuple[float, float]


class View(NamedTuple):
    """An image before and after its way to the backbone.

    ``pixels``: uint8 (height, width, 3) in RGB, to draw on. ``inputs`` ``(1, channels, H, W)``: resized, normalised and
    padded. ``samples``: the data sample that goes with it. ``size``: (height, width) of the image inside ``inputs``.
    """

    pixels: np.ndarray
    inputs: Tensor
    samples: list[Any]
    size: tuple[int, int]

    def on_image(self, heat: np.ndarray) -> np.ndarray:
        """Gives ``heat`` ``(H, W)``, a value for each pixel of ``inputs``, for each pixel of the image."""
        height, width = self.pixels.shape[:2]
        return cv2.resize(heat[: self.size[0], : self.size[1]], (width, height), interpolation=cv2.INTER_LINEAR)

    def tokens_on_image(self, weights: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
        """Gives ``weights`` ``(h, w)``, one for each token of ``stride`` (y, x) pixels, for each pixel of the image."""
        return self.on_image(weights.repeat(stride[0], 0).repeat(stride[1], 1))

    def place(self, point: Point, stride: tuple[int, int]) -> tuple[int, int]:
        """Finds the token (row, column) at ``point`` (x, y) of the image, where tokens have ``stride`` (y, x) pixels.

        Raises ValueError for a point outside of the image.
        """
        height, width = self.pixels.shape[:2]
        x, y = point
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f'point must be inside of the image of {width}x{height} pixels, got ({x:g}, {y:g})')
        return int(y / height * self.size[0]) // stride[0], int(x / width * self.size[1]) // stride[1]


def stride_of(backbone: SwinTransformer, stage: int) -> tuple[int, int]:
    """Gives the (y, x) pixels of a token in a stage of ``backbone``."""
    y, x = backbone.arguments.patch_size
    return y * 2**stage, x * 2**stage


def see(predictor: Detector | Segmentor, image: Image) -> View:
    """Prepares ``image`` as ``predictor`` does; raises as ``predictor.prepare`` does."""
    prepared = predictor.prepare(image)
    packed = {key: [prepared.packed[key]] for key in ('inputs', 'data_samples')}
    with torch.no_grad():
        data = predictor.model.data_preprocessor(packed, False)
    samples = data['data_samples']
    return View(
        predictor.reader.to_rgb(prepared.pixels), data['inputs'], samples, tuple(samples[0].metainfo['img_shape'][:2])
    )
