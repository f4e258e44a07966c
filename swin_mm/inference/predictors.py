"""Trained models that take images and give plain results.

An image goes four steps: source -> prepare -> predict -> sink. A source is any iterable of images: paths, arrays,
`EncodedImage` for the bytes of a file, or `NamedImage` for pixels that have a name, such as the frames of a video.
`Predictor.stream` prepares and predicts, some images at a time, and hands each result to whoever iterates, the sink.
So a new source or sink changes nothing here.
"""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from mmengine.config import Config

from .adapter import detections
from .failures import cause, named
from .images import MAX_PIXELS, check_max_pixels, image_name
from .loading import image_reader, input_pipeline, load_model, pick_device
from .naming import named_model
from .origin import Origin
from .overlap import map_ahead
from .prepared import EncodedImage, Image, NamedImage, Prepared
from .results import Detections, Segmentation

Result = TypeVar('Result')
PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
SORTED = 4  # batches of images that are put together by their shapes


class Predictor(ABC, Generic[Result]):
    """The trained model of a config and a checkpoint, for images; without one with the weights published for it.

    ``precision``: 'fp32', or 'bf16' or 'fp16' for products in 16 bits; boxes stay in float32. ``compile`` has
    PyTorch compile the backbone at the first image of each size.
    """

    scope: ClassVar[str]  # the package whose models it runs

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike | None = None,
        device: str | None = None,
        max_pixels: int = MAX_PIXELS,
        precision: str = 'fp32',
        compile: bool = False,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f'precision must be one of {", ".join(PRECISIONS)}, got {precision}')
        cfg, checkpoint = named_model(config, checkpoint)
        scope = cfg.get('default_scope', self.scope)
        tasks = {task.scope: task.__name__ for task in (Detector, Segmentor)}
        if scope != self.scope and scope in tasks:
            raise ValueError(
                f"config must have default_scope='{self.scope}' for a {tasks[self.scope]}, got '{scope}' in "
                f'{cfg.filename}: use a {tasks[scope]}'
            )
        self.max_pixels = check_max_pixels(max_pixels)
        self.reader = image_reader(cfg)
        self.device = pick_device(device)
        self.model, self.dataset_meta = load_model(cfg, checkpoint, self.scope)
        self.classes = list(self.dataset_meta['classes'])
        self.model.to(self.device).eval()
        self.dtype = PRECISIONS[precision]
        if compile:
            self.model.backbone.compile()
        self._pipeline = input_pipeline(cfg, self.scope)

    def __call__(self, images: Image | Iterable[Image], batch_size: int = 1) -> list[Result]:
        """The result for each of ``images``: paths, or uint8 arrays (height, width, 3) in BGR as OpenCV reads them.

        If the test pipeline loads grey images, arrays are uint8 (height, width); if it loads bands, they are
        (height, width, bands) with the values and bands of a file.
        One image gives a list of one. Raises OSError, ValueError, TypeError or RuntimeError naming the first image
        that has no result; `stream` goes on with the others.
        """
        results = []
        for found in self.stream(images, batch_size):
            if isinstance(found, Exception):
                raise found
            results.append(found[1])
        return results

    def stream(
        self, images: Image | Iterable[Image | Exception], batch_size: int = 1, workers: int = 0
    ) -> Iterator[tuple[np.ndarray, Result] | Exception]:
        """Yields (pixels, result) for each image, or the exception if it failed; a failure stops no other image.

        ``images`` are as for a call; an exception among them, of a source that failed there, is passed on. As many
        ``workers``, threads, read and prepare the images that come next while the model is at work. Of every four
        batches of more than one image, those of like aspect ratio share a batch, which pads them least; results keep
        the order of the images. At most nine batches and twice the workers are in memory at a time.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        if workers < 0:
            raise ValueError(f'workers must be at least 0, got {workers}')
        if isinstance(images, Image):
            images = [images]
        if not isinstance(images, Iterable):
            raise TypeError(f'images must be a path, an array or a list of these, got {type(images).__name__}')
        at_once = 1 if batch_size == 1 else SORTED * batch_size
        prepared = map_ahead(self._prepare_or_fail, enumerate(images), workers, max(2 * workers, at_once))
        return self._stream(prepared, at_once, batch_size)

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """The image of a file as this model reads it, such as uint8 (height, width, 3) in BGR, upright by its EXIF tag.

        Raises OSError or ValueError with the path and the reason, also for more than ``max_pixels``.
        """
        return self.reader.read(path, self.max_pixels)

    def prepare(self, image: Image, number: int = 0) -> Prepared:
        """Reads and checks one image and passes it through the test pipeline; ``number`` names an array.

        Raises OSError, ValueError, TypeError or RuntimeError with the name of the image and the reason.
        """
        name, pixels = self._named_pixels(image, f'images[{number}]')
        path = os.fspath(image) if isinstance(image, str | os.PathLike) else None
        try:
            return Prepared(name, pixels, self._pipeline(dict(img=pixels, img_id=number)), path)
        except Exception as error:  # what a transform says of an image that it cannot resize
            raise named(error, name, pixels, 'the test pipeline fails') from cause(error)

    @torch.no_grad()
    def predict(self, prepared: Sequence[Prepared]) -> list[Result | Exception]:
        """Predicts all as one batch; if that fails each by itself, so that only a failing image has no result."""
        if not prepared:
            return []
        try:
            samples = self._samples([one.packed for one in prepared])
            return [self._result(sample, self._origin(one)) for sample, one in zip(samples, prepared, strict=True)]
        except Exception as error:  # whatever happens to one image
            if len(prepared) == 1:
                failed = named(error, prepared[0].name, prepared[0].pixels, 'the model fails')
                failed.__cause__ = cause(error)
                return [failed]
        return [result for one in prepared for result in self.predict([one])]

    def _stream(
        self, prepared: Iterator[Prepared | Exception], at_once: int, batch_size: int
    ) -> Iterator[tuple[np.ndarray, Result] | Exception]:
        """Takes ``at_once`` images, and batches them by shape."""
        while some := list(islice(prepared, at_once)):
            whole = [one for one in some if isinstance(one, Prepared)]
            whole.sort(key=lambda one: one.pixels.shape[0] / one.pixels.shape[1])
            results: dict[int, Result | Exception] = {}
            for start in range(0, len(whole), batch_size):
                batch = whole[start : start + batch_size]
                results.update(zip(map(id, batch), self.predict(batch), strict=True))
            for one in some:
                if isinstance(one, Exception):
                    yield one
                    continue
                result = results.pop(id(one))
                yield result if isinstance(result, Exception) else (one.pixels, result)

    def _prepare_or_fail(self, numbered: tuple[int, Image | Exception]) -> Prepared | Exception:
        number, image = numbered
        if isinstance(image, Exception):
            return image
        try:
            return self.prepare(image, number)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            return error

    def _named_pixels(self, image: Image, name: str) -> tuple[str, np.ndarray]:
        if isinstance(image, NamedImage):
            return image.name, self.reader.check(image.pixels, image.name)
        if isinstance(image, EncodedImage):
            return image.name, self.reader.decode(io.BytesIO(image.data), image.name, self.max_pixels)
        if isinstance(image, np.ndarray):
            return name, self.reader.check(image, name)
        if isinstance(image, str | os.PathLike):
            return image_name(image), self.read(image)
        raise TypeError(f'{name} must be an array, a NamedImage, an EncodedImage or a path, got {type(image).__name__}')

    def _samples(self, packed: Sequence[dict[str, Any]]) -> list[Any]:
        """The model's own results for what the pipeline made of each image, all as one batch."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model.test_step({key: [one[key] for one in packed] for key in ('inputs', 'data_samples')})

    def _origin(self, image: Prepared) -> Origin:
        return Origin(image.path, self.reader, self.max_pixels, self.classes, self.dataset_meta['palette'])

    @abstractmethod
    def _result(self, sample: Any, origin: Origin) -> Result:
        """The public result of one of the model's own."""


class Detector(Predictor[Detections]):
    """Finds objects in images with the trained mmdet model of a config and a checkpoint: gives `Detections`.

    ``config`` is a path, the name of a recipe, or a packed model: its folder or ``hf://owner/name``. ``checkpoint`` is
    a path, a URL or ``hf://owner/name``; None takes the weights that were published for the recipe, or those of the
    packed model. What is downloaded is kept. ``device`` None takes the GPU if there is one. A file of more than
    ``max_pixels`` is not decoded. Class names are those that the checkpoint was trained on, or else those of the
    config's test data set. Nothing in the checkpoint runs: it is loaded with ``weights_only=True`` and a config in it
    is ignored; the config of a packed model is data. Raises ValueError if the checkpoint does not belong to the config
    or a packed config is none, OSError if either cannot be had, PreflightError if there is no such config or no weights
    are published for it.
    """

    scope = 'mmdet'

    def _result(self, sample: Any, origin: Origin) -> Detections:
        return detections(sample.cpu(), origin)


class Segmentor(Predictor[Segmentation]):
    """Gives every pixel of images a class with the trained mmseg model of a config and a checkpoint: `Segmentation`.

    Config, checkpoint, device, class names and safety are as for a `Detector`; the colours in ``dataset_meta`` come
    from where the names come from. Images of any sizes may share a call: neighbours of one size share a batch. The
    config's ``model.test_cfg`` says whether an image is taken whole or in overlapping windows.
    """

    scope = 'mmseg'

    def _samples(self, packed: Sequence[dict[str, Any]]) -> list[Any]:
        alike = groupby(packed, key=lambda one: one['inputs'].shape)  # mmseg stacks a batch as it is
        return [sample for _, group in alike for sample in super(Segmentor, self)._samples(list(group))]

    @torch.no_grad()
    def logits(self, prepared: Prepared) -> np.ndarray:
        """Gives what the head says of each pixel of an image, (classes, height, width); one channel if it has one."""
        (sample,) = self._samples([prepared.packed])
        return sample.seg_logits.data.float().cpu().numpy()

    def _result(self, sample: Any, origin: Origin) -> Segmentation:
        sample.pop('seg_logits', None)
        sample = sample.cpu()
        labels = sample.pred_sem_seg.data[0].numpy().astype(np.int64)  # floats from a head with one output channel
        counts = np.bincount(labels.ravel(), minlength=len(self.classes))
        order = np.argsort(-counts, kind='stable')
        return Segmentation(
            labels=labels,
            shares={self.classes[i]: float(counts[i] / labels.size) for i in order if counts[i]},
            sample=sample,
            origin=origin,
        )
