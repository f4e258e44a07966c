"""Images on their way to a model."""

import os
from typing import Any, NamedTuple

import numpy as np


class NamedImage(NamedTuple):
    """Decoded ``pixels``, an array as for a call of a `Predictor`, and the ``name`` that errors give them."""

    name: str
    pixels: np.ndarray


class EncodedImage(NamedTuple):
    """The bytes of an image file, from wherever they were read, and the ``name`` that errors give them."""

    name: str
    data: bytes


Image = str | os.PathLike | np.ndarray | NamedImage | EncodedImage


class Prepared(NamedTuple):
    """An image on its way to the model: ``packed`` is what the test pipeline made of ``pixels``; ``path`` its file."""

    name: str
    pixels: np.ndarray
    packed: dict[str, Any]
    path: str | None = None
