"""Reads what a network is fed: images and annotations of a config's data set behind its pipeline."""

import colorsys
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope
from mmengine.runner import set_random_seed

from ..recipes import datasets_in, settings_within, type_name

IGNORED = -1  # the label of what a loss leaves out, such as COCO's crowds
IGNORED_PIXEL = 255
GOLDEN = 0.618  # turns of the colour wheel from one class to the next: no two of many are near


class Sample(NamedTuple):
    """One item of a data set, as augmented.

    ``pixels`` are uint8 (height, width, 3) in RGB. ``boxes`` are (n, 4) as (x1, y1, x2, y2) in pixels, ``labels`` (n,)
    with `IGNORED`, ``masks`` (n, height, width) bool or None. ``label_map`` is (height, width), or None for a detector.
    """

    name: str
    pixels: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    label_map: np.ndarray | None


class Split:
    """The data set of ``cfg`` for ``split`` 'train', 'val' or 'test', with its ``classes`` and ``palette``.

    A test pipeline loads annotations last, for the image as it was. Here they are loaded first, so that they are
    resized with it. Raises ValueError if ``cfg`` has no such split.
    """

    def __init__(self, cfg: Config, split: str):
        loader = cfg.get(f'{split}_dataloader')
        if not loader:
            raise ValueError(f'{cfg.filename} must set {split}_dataloader to be browsed, got {loader}')
        settings = loader['dataset']
        if split != 'train':
            for dataset in datasets_in(settings):
                dataset['pipeline'] = sorted(
                    dataset['pipeline'], key=lambda step: not type_name(step).startswith('Load')
                )
        self.scope = DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
        with self.scope:
            self.dataset = DATASETS.build(settings)
            self.dataset.full_init()
            self.to_rgb = _drawing_of(cfg, settings)
        self.is_labelled = cfg.get('default_scope') == 'mmseg'
        self.classes: Sequence[str] = self.dataset.metainfo.get('classes') or ()
        self.palette = _colours(self.dataset.metainfo.get('palette'), len(self.classes))

    def read(self, number: int, seed: int) -> Iterator[Sample]:
        """Yields ``number`` items, or all of fewer, chosen and augmented with ``seed``.

        Raises ValueError if the pipeline does not end as those of mmdet and mmseg do.
        """
        chosen = random.Random(seed).sample(range(len(self.dataset)), min(number, len(self.dataset)))
        for index in sorted(chosen):
            set_random_seed(seed + index)
            item = self.dataset[index]
            if not isinstance(item, dict) or not {'inputs', 'data_samples'} <= item.keys():
                raise ValueError('the pipeline must end with PackDetInputs or PackSegInputs to be browsed')
            yield self._sample(item['inputs'], item['data_samples'], index)

    def image(self, index: int) -> np.ndarray:
        """Gives the image of an item as it is on disk, uint8 (height, width, 3) in RGB.

        Raises OSError if it cannot be read, ValueError if the pipeline loads none.
        """
        item = self.dataset.get_data_info(index)
        for step in self.dataset.pipeline.transforms:
            item = step(item)
            if 'img' in item:
                image = item['img']
                return np.ascontiguousarray(self.to_rgb(image if image.ndim == 3 else image[..., None]))
        raise ValueError('the pipeline must load images, with LoadImageFromFile or swin_mm.LoadImage')

    def _sample(self, inputs: Any, found: Any, index: int) -> Sample:
        pixels = np.ascontiguousarray(self.to_rgb(inputs.numpy().transpose(1, 2, 0)))
        parts = [] if self.is_labelled else [part for part in _instances(found) if 'bboxes' in part]
        boxes = [np.asarray(getattr(part.bboxes, 'tensor', part.bboxes)).reshape(-1, 4) for part in parts]
        labels = [np.asarray(part.labels) for part in parts[:1]]
        labels += [np.full(len(some), IGNORED) for some in boxes[1:]]
        masks = [part.masks.to_ndarray().astype(bool) for part in parts if 'masks' in part]
        return Sample(
            Path(getattr(found, 'img_path', None) or str(index)).name,
            pixels,
            np.concatenate([*boxes, np.zeros((0, 4))]),
            np.concatenate([*labels, np.zeros(0, int)]).astype(int),
            np.concatenate(masks) if parts and len(masks) == len(parts) else None,
            found.gt_sem_seg.data[0].numpy() if self.is_labelled and 'gt_sem_seg' in found else None,
        )


def read_label_map(dataset: Any, info: dict) -> np.ndarray:
    """Gives the label map of an image as the ``dataset`` loads it, (height, width) as it is on disk.

    ``info`` is an item of its list. Raises ValueError if its pipeline loads none, or there is none.
    """
    from mmcv.transforms import LoadAnnotations

    loads = next((step for step in dataset.pipeline.transforms if isinstance(step, LoadAnnotations)), None)
    if loads is None:
        raise ValueError('the pipeline must load label maps, with LoadAnnotations or swin_mm.LoadLabels')
    if not info.get('seg_map_path'):
        raise ValueError(f'{info["img_path"]} must have a label map, and has none')
    return loads(info)['gt_seg_map']


def _instances(found: Any) -> list[Any]:
    """The objects to learn, and those that are ignored."""
    return [found.get(key) for key in ('gt_instances', 'ignored_instances') if key in found]


def _drawing_of(cfg: Config, settings: dict) -> Callable[[np.ndarray], np.ndarray]:
    """How the images of a pipeline become uint8 in RGB: by its ``LoadBands``, or from mmcv's BGR or grey."""
    for _, step in settings_within(settings, 'dataset'):
        if type_name(step) == 'LoadBands':
            return TRANSFORMS.build(step).to_rgb
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or {}
    order = slice(None) if preprocessor.get('rgb_to_bgr') else slice(None, None, -1)

    def to_rgb(image: np.ndarray) -> np.ndarray:
        shown = image[..., :3][..., order] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)
        return shown.round().clip(0, 255).astype(np.uint8) if shown.dtype != np.uint8 else shown

    return to_rgb


def _colours(palette: Any, number: int) -> np.ndarray:
    """A colour a class, uint8 (number, 3) in RGB: of the data set, or hues far apart.

    mmdet keeps COCO's palette for other classes, whose first colours are alike: a palette of another length is left.
    """
    if not isinstance(palette, list | tuple) or len(palette) != number:
        palette = [np.multiply(colorsys.hsv_to_rgb(i * GOLDEN % 1, 0.85, 0.95), 255) for i in range(number)]
    return np.array(palette, np.uint8).reshape(-1, 3)
