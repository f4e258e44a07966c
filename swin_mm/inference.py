"""Load a trained model once, predict on arrays and files.

detector = Detector('configs/mask_rcnn_swin_t.py', 'work_dirs/mask_rcnn_swin_t/epoch_12.pth')
found = detector('street.jpg')[0]
found.boxes, found.scores, found.names, found.masks

segmentor = Segmentor('configs/upernet_swin_t.py', 'work_dirs/upernet_swin_t/iter_160000.pth')
found = segmentor('street.jpg')[0]
found.labels, found.shares
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from .images import MAX_PIXELS, WANTED, check_array, check_max_pixels, read_image
from .loading import input_pipeline, load_checkpoint, load_model, pick_device

__all__ = ['Detections', 'Detector', 'Segmentation', 'Segmentor', 'load_checkpoint']

Image = str | os.PathLike | np.ndarray
Result = TypeVar('Result')


@dataclass(frozen=True)
class Detections:
    """The N objects found in an image, best first.

    ``boxes`` (N, 4) as (x1, y1, x2, y2) in pixels of the image, ``scores`` (N,) as probabilities, ``labels`` (N,) as
    indices of the detector's classes, ``names`` the classes of the labels, ``masks`` (N, height, width) as booleans or
    None for a model that finds boxes only. ``sample`` is mmdet's own result, which its visualiser draws.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: np.ndarray | None
    sample: Any


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of an image.

    ``labels`` (height, width) int64 as indices of the segmentor's classes, ``shares`` what part of the pixels each
    class that occurs has, the largest first; they sum to 1. ``sample`` is mmseg's own result, which its visualiser
    draws, without the logits: with 150 classes these are 600 bytes a pixel.
    """

    labels: np.ndarray
    shares: dict[str, float]
    sample: Any


@dataclass(frozen=True)
class _Prepared:
    """An image between its file and the model."""

    name: str
    pixels: np.ndarray
    packed: dict[str, Any]


class _Predictor(ABC, Generic[Result]):
    """The trained model of a config file and a checkpoint, for images."""

    scope: ClassVar[str]  # the package whose models it runs

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike,
        device: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        cfg = config if isinstance(config, Config) else Config.fromfile(config)
        scope = cfg.get('default_scope', self.scope)
        tasks = {task.scope: task.__name__ for task in (Detector, Segmentor)}
        if scope != self.scope and scope in tasks:
            raise ValueError(
                f"config must have default_scope='{self.scope}' for a {tasks[self.scope]}, got '{scope}' in "
                f'{cfg.filename}: use a {tasks[scope]}'
            )
        self.max_pixels = check_max_pixels(max_pixels)
        self.device = pick_device(device)
        self.model, self.dataset_meta = load_model(cfg, checkpoint, self.scope)
        self.classes = list(self.dataset_meta['classes'])
        self.model.to(self.device).eval()
        self._reader, self._pipeline = input_pipeline(cfg, self.scope)

    def __call__(self, images: Image | Iterable[Image], batch_size: int = 1) -> list[Result]:
        """The result for each of ``images``: paths, or uint8 arrays (height, width, 3) in BGR as OpenCV reads them.

        One image gives a list of one. Raises OSError, ValueError, TypeError or RuntimeError naming the first image
        that has no result; `each` goes on with the others.
        """
        results = []
        for found in self.each(images, batch_size):
            if isinstance(found, Exception):
                raise found
            results.append(found[1])
        return results

    def each(
        self, images: Image | Iterable[Image], batch_size: int = 1
    ) -> Iterator[tuple[np.ndarray, Result] | Exception]:
        """The pixels and the result for each of ``images``, as for a call; the exception that says why for one without.

        One that cannot be read, or that takes more memory than there is, stops no other, in its batch or after it.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        if isinstance(images, str | os.PathLike | np.ndarray):
            images = [images]
        if not isinstance(images, Iterable):
            raise TypeError(f'images must be a path, an array or a list of these, got {type(images).__name__}')
        return self._batches(enumerate(images), batch_size)

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """The image of a file as this model reads it, uint8 (height, width, 3) in BGR, upright by its EXIF tag.

        Raises OSError or ValueError with the path and the reason, also for more than ``max_pixels``.
        """
        return read_image(path, self._reader, self.max_pixels)

    def _batches(
        self, numbered: Iterator[tuple[int, Image]], batch_size: int
    ) -> Iterator[tuple[np.ndarray, Result] | Exception]:
        while batch := list(islice(numbered, batch_size)):
            prepared = [self._prepared(image, i) for i, image in batch]
            results = iter(self._predict([one for one in prepared if isinstance(one, _Prepared)]))
            for one in prepared:
                result = one if isinstance(one, Exception) else next(results)
                yield result if isinstance(result, Exception) else (one.pixels, result)

    def _prepared(self, image: Image, i: int) -> _Prepared | Exception:
        name = f'images[{i}]'
        try:
            if isinstance(image, np.ndarray):
                pixels = check_array(image, name)
            elif isinstance(image, str | os.PathLike):
                name, pixels = os.fspath(image), self.read(image)
            else:
                raise TypeError(f'{name} {WANTED}, or a path, got {type(image).__name__}')
        except (OSError, ValueError, TypeError) as error:
            return error
        try:
            return _Prepared(name, pixels, self._pipeline(dict(img=pixels, img_id=i)))
        except Exception as error:  # what a transform says of a picture that it cannot resize
            return _named(error, name, pixels, 'the test pipeline fails')

    @torch.no_grad()
    def _predict(self, prepared: Sequence[_Prepared]) -> list[Result | Exception]:
        """All as one batch; if it fails each by itself, so that only the one that does not work has no result."""
        if not prepared:
            return []
        try:
            return [self._result(sample) for sample in self._samples([one.packed for one in prepared])]
        except Exception as error:  # whatever happens to one picture
            if len(prepared) == 1:
                return [_named(error, prepared[0].name, prepared[0].pixels, 'the model fails')]
        return [result for one in prepared for result in self._predict([one])]

    def _samples(self, packed: Sequence[dict[str, Any]]) -> list[Any]:
        """The model's own results for what the pipeline made of each image, all as one batch."""
        return self.model.test_step({key: [one[key] for one in packed] for key in ('inputs', 'data_samples')})

    @abstractmethod
    def _result(self, sample: Any) -> Result:
        """The public result of one of the model's own."""


class Detector(_Predictor[Detections]):
    """Finds objects in images with the trained mmdet model of a config file and a checkpoint: gives `Detections`.

    ``device`` None takes the GPU if there is one; a file of more than ``max_pixels`` is not decoded. Class names are
    those that the checkpoint was trained on, or else those of the config's test data set. Nothing in the checkpoint
    runs: it is loaded with ``weights_only=True`` and a config in it is ignored. Raises ValueError if the checkpoint
    does not belong to the config, FileNotFoundError if it is not there.
    """

    scope = 'mmdet'

    def _result(self, sample: Any) -> Detections:
        sample = sample.cpu()
        found = sample.pred_instances
        labels = found.labels.numpy()
        masks = found.get('masks')
        return Detections(
            boxes=found.bboxes.numpy(),
            scores=found.scores.numpy(),
            labels=labels,
            names=[self.classes[label] for label in labels],
            masks=masks.numpy() if isinstance(masks, Tensor) else masks,
            sample=sample,
        )


class Segmentor(_Predictor[Segmentation]):
    """Gives every pixel of images a class with the trained mmseg model of a config and a checkpoint: `Segmentation`.

    Device, class names and safety are as for a `Detector`; the colours in ``dataset_meta`` come from where the names
    come from. Pictures of any sizes may share a call: neighbours of one size share a batch. The config's
    ``model.test_cfg`` says whether a picture is taken whole or in overlapping windows.
    """

    scope = 'mmseg'

    def _samples(self, packed: Sequence[dict[str, Any]]) -> list[Any]:
        alike = groupby(packed, key=lambda one: one['inputs'].shape)  # mmseg stacks a batch as it is
        return [sample for _, group in alike for sample in super(Segmentor, self)._samples(list(group))]

    def _result(self, sample: Any) -> Segmentation:
        sample.pop('seg_logits', None)
        sample = sample.cpu()
        labels = sample.pred_sem_seg.data[0].numpy().astype(np.int64)  # floats from a head with one output channel
        counts = np.bincount(labels.ravel(), minlength=len(self.classes))
        order = np.argsort(-counts, kind='stable')
        return Segmentation(
            labels=labels,
            shares={self.classes[i]: float(counts[i] / labels.size) for i in order if counts[i]},
            sample=sample,
        )


def _named(error: Exception, name: str, pixels: np.ndarray, what: str) -> RuntimeError:
    height, width = pixels.shape[:2]
    text = ' '.join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or 'allocate memory' in text:
        # Without its cause, whose frames hold what fills the memory.
        return RuntimeError(f'{name}: out of memory with {width}x{height} pixels, take a smaller picture: {text}')
    named = RuntimeError(f'{name}: {what} with {width}x{height} pixels: {type(error).__name__}: {text}')
    named.__cause__ = error
    return named
