"""Load a trained model once, predict on arrays and files.

detector = Detector('configs/mask_rcnn_swin_t.py', 'work_dirs/mask_rcnn_swin_t/epoch_12.pth')
found = detector('street.jpg')[0]
found.boxes, found.scores, found.names, found.masks
"""

import copy
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

Image = str | os.PathLike | np.ndarray


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


class Detector:
    """Finds objects in images with the trained mmdet model of a config file and a checkpoint.

    ``device`` None takes the GPU if there is one. Class names are those that the checkpoint was trained on, or else
    those of the config's test data set. Nothing in the checkpoint runs: it is loaded with ``weights_only=True`` and a
    config in it is ignored. Raises ValueError if the checkpoint does not belong to the config.
    """

    def __init__(self, config: str | os.PathLike | Config, checkpoint: str | os.PathLike, device: str | None = None):
        cfg = config if isinstance(config, Config) else Config.fromfile(config)
        self.device = _device(device)
        loaded = load_checkpoint(checkpoint)
        self.model = _build(cfg, default_scope='mmdet')
        _load_state(self.model, loaded, checkpoint)
        self.dataset_meta = _trained_on(loaded) or _configured(cfg)
        self.classes = list(self.dataset_meta['classes'])
        _check_classes(self.model, self.classes, checkpoint)
        self.model.to(self.device).eval()
        self._reader, self._pipeline = _pipeline(cfg)

    def __call__(self, images: Image | Sequence[Image], batch_size: int = 1) -> list[Detections]:
        """What is found in each of ``images``: paths, or uint8 arrays (height, width, 3) in BGR as OpenCV reads them.

        One image gives a list of one. Raises FileNotFoundError or ValueError naming the image that cannot be used.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        if isinstance(images, str | os.PathLike | np.ndarray):
            images = [images]
        return [
            found
            for start in range(0, len(images), batch_size)
            for found in self._predict(images[start : start + batch_size], start)
        ]

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """The image of a file as this model reads it, uint8 (height, width, 3) in BGR, upright by its EXIF tag.

        Raises FileNotFoundError or ValueError with the path and the reason.
        """
        import mmcv

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such file')
        data = path.read_bytes()
        if not data:
            raise ValueError(f'{path}: the file is empty (0 bytes)')
        image = mmcv.imfrombytes(data, **self._reader)
        if image is None:
            raise ValueError(f'{path}: not an image that OpenCV can decode, or only a part of one')
        return image

    @torch.no_grad()
    def _predict(self, images: Sequence[Image], start: int) -> list[Detections]:
        batch: dict[str, list] = {'inputs': [], 'data_samples': []}
        for i, image in enumerate(images, start):
            pixels = _checked(image, f'images[{i}]') if isinstance(image, np.ndarray) else self.read(image)
            packed = self._pipeline(dict(img=pixels, img_id=i))
            for key, values in batch.items():
                values.append(packed[key])
        return [self._detections(sample.cpu()) for sample in self.model.test_step(batch)]

    def _detections(self, sample: Any) -> Detections:
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


def load_checkpoint(source: str | os.PathLike) -> dict[str, Any]:
    """The content of a checkpoint file or URL, on the CPU; raises ValueError if it holds more than plain data."""
    source = os.fspath(source)
    try:
        if source.startswith(('http://', 'https://')):
            loaded = torch.hub.load_state_dict_from_url(source, map_location='cpu', weights_only=True)
        else:
            loaded = torch.load(source, map_location='cpu', weights_only=True)
    except OSError as error:
        if os.path.basename(source) in str(error):
            raise
        raise OSError(f'{source}: {error}') from error  # a failed download tells the reason only
    except Exception as error:  # torch raises almost anything on a file that is no checkpoint
        if found := re.search(r'GLOBAL (\S+)', str(error)):
            reason = f'holds Python objects ({found[1]}), which could run code, so it is not loaded'
        else:
            reason = f'is not a checkpoint, or a damaged one ({type(error).__name__})'
        raise ValueError(f'{source} {reason}') from error
    if not isinstance(loaded, dict):
        raise ValueError(f'{source} must hold a dictionary of tensors, got {type(loaded).__name__}')
    return loaded


def _device(name: str | None) -> torch.device:
    available = torch.cuda.is_available()
    device = torch.device(name or ('cuda' if available else 'cpu'))
    if device.type == 'cuda' and not available:
        raise ValueError(f'device must be there, got device={name} without a CUDA device: leave it out, or say cpu')
    return device


def _build(cfg: Config, default_scope: str) -> nn.Module:
    """The model of ``cfg`` with random weights, for one process; its ``init_cfg`` is left alone."""
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(cfg.get('default_scope', default_scope))
    return revert_sync_batchnorm(MODELS.build(cfg.model))


def _load_state(model: nn.Module, loaded: dict[str, Any], source: str | os.PathLike) -> None:
    state = loaded.get('state_dict', loaded)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f'{os.fspath(source)} does not belong to this config. {_shortened(str(error))}') from error


def _shortened(message: str, lines: int = 6) -> str:
    """torch names every key of a state dict that does not fit; a few of them in one line tell as much."""
    parts = [part.strip() for part in message.splitlines()]
    return ' '.join(part if len(part) < 300 else f'{part[:300]} ...' for part in parts[:lines])


def _trained_on(loaded: dict[str, Any]) -> dict[str, Any] | None:
    """The data set's names and colours that mmengine, or mmdet 2.x before it, wrote into a checkpoint; None if none."""
    meta = loaded.get('meta') or {}
    names = {key.lower(): value for key, value in (meta.get('dataset_meta') or meta).items()}
    if not names.get('classes'):
        return None
    return {'classes': names['classes'], 'palette': names.get('palette') or 'random'}


def _configured(cfg: Config) -> dict[str, Any]:
    """The test data set's names and colours; its annotations are not read. Raises ValueError if it has no names."""
    from mmengine.registry import DATASETS

    dataset = cfg.test_dataloader.dataset
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset.dataset
    metainfo = DATASETS.build({**copy.deepcopy(dataset), 'lazy_init': True}).metainfo
    if not metainfo.get('classes'):
        raise ValueError(
            f'class names are neither in the checkpoint nor in the config: set metainfo=dict(classes=(...)) in '
            f'test_dataloader.dataset of {cfg.filename}'
        )
    return {'classes': metainfo['classes'], 'palette': metainfo.get('palette') or 'random'}


def _check_classes(model: nn.Module, classes: list[str], source: str | os.PathLike) -> None:
    """Names of another data set would be wrong without a sign of it."""
    predicted = max((module.num_classes for module in model.modules() if hasattr(module, 'num_classes')), default=None)
    if predicted is not None and predicted != len(classes):
        raise ValueError(
            f'num_classes must be the number of class names, got num_classes={predicted} and {len(classes)} names '
            f'({", ".join(classes[:3])}, ...) for {os.fspath(source)}: set metainfo=dict(classes=(...)) in the config'
        )


def _pipeline(cfg: Config) -> tuple[dict[str, Any], Any]:
    """How to decode a file, and the config's test pipeline from the decoded image on (mmdet's `inference_detector`)."""
    from mmdet.utils import get_test_pipeline_cfg
    from mmengine.dataset import Compose

    first, *rest = copy.deepcopy(list(get_test_pipeline_cfg(cfg)))
    if not str(first['type']).endswith('LoadImageFromFile'):
        raise ValueError(f'the test pipeline must begin with LoadImageFromFile, got {first["type"]}')
    reader = dict(flag=first.get('color_type', 'color'), backend=first.get('imdecode_backend', 'cv2'))
    load = dict(type='mmdet.LoadImageFromNDArray', to_float32=first.get('to_float32', False))
    return reader, Compose([load, *rest])


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f'{name} must be a uint8 array (height, width, 3) in BGR, got {image.dtype} {tuple(image.shape)}'
        )
    return image
