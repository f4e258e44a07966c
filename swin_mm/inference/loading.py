"""Builds a trained model from a config and a checkpoint, with its class names and the pipeline of its inputs."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from torch import nn

from ..checkpoints.files import read as load_checkpoint
from ..checkpoints.load import load_weights
from ..checkpoints.sources import is_remote
from ..errors import CheckpointError
from ..recipes import datasets_in, short_name, type_name
from .images import BandReader, PictureReader, Reader


def load_model(cfg: Config, checkpoint: str | os.PathLike, scope: str) -> tuple[BaseModel, dict[str, Any]]:
    """Builds the model of ``cfg`` with the weights of ``checkpoint``, on the CPU; gives also ``classes``, ``palette``.

    Both come from the checkpoint, or else from the config's test data set, whose annotations are not read. ``palette``
    is 'random' if neither has colours for these classes. ``scope``: where the config's types are looked up if it has no
    default scope. Raises ValueError if the checkpoint does not belong to the config, or the class names not to the
    model, and FileNotFoundError if there is no such checkpoint.
    """
    _check_file(os.fspath(checkpoint), cfg)
    loaded = load_checkpoint(checkpoint)
    model = _build(cfg, scope)
    try:
        load_weights(model, loaded)
    except CheckpointError as error:
        raise ValueError(f'{os.fspath(checkpoint)} does not belong to this config: {error}') from error
    meta = _names_and_colours(loaded, cfg)
    _check_classes(model, meta['classes'], checkpoint)
    return model, meta


def pick_device(name: str | None) -> torch.device:
    """Gives the device of a name, for None the GPU if there is one. Raises ValueError for a GPU that is not there."""
    available = torch.cuda.is_available()
    device = torch.device(name or ('cuda' if available else 'cpu'))
    if device.type == 'cuda' and not available:
        raise ValueError(f'device must be there, got device={name} without a CUDA device: leave it out, or say cpu')
    return device


def image_reader(cfg: Config) -> Reader:
    """Gives what reads the images of the config's test pipeline; raises ValueError if its first step is unknown."""
    from mmengine.registry import TRANSFORMS

    first = _test_dataset(cfg).pipeline[0]
    if type_name(first) == 'LoadBands':
        return BandReader(TRANSFORMS.build(first))
    if type_name(first) != 'LoadImageFromFile':
        raise ValueError(
            f'the test pipeline must begin with LoadImageFromFile or swin_mm.LoadBands, got {first["type"]}'
        )
    return PictureReader(**{key: first[key] for key in ('color_type', 'imdecode_backend') if key in first})


def input_pipeline(cfg: Config, scope: str) -> Any:
    """Gives the config's test pipeline behind the reading of a file, without annotations."""
    from mmcv.transforms import LoadAnnotations
    from mmengine.dataset import Compose

    first, *rest = copy.deepcopy(list(_test_dataset(cfg).pipeline))
    load = dict(type=f'{scope}.LoadImageFromNDArray', to_float32=first.get('to_float32', False))
    # Even to be built, this one needs panopticapi, to read what is not read here.
    rest = [step for step in rest if type_name(step) != 'LoadPanopticAnnotations']
    pipeline = Compose([load, *rest])
    pipeline.transforms = [step for step in pipeline.transforms if not isinstance(step, LoadAnnotations)]
    return pipeline


def _check_file(checkpoint: str, cfg: Config) -> None:
    path = Path(checkpoint).expanduser()
    if not is_remote(checkpoint) and not path.is_file():
        what = 'a folder, not a file' if path.is_dir() else f'no such file (looked in {path.absolute().parent})'
        raise FileNotFoundError(
            f'checkpoint {checkpoint}: {what}: name another file or a URL, or train one with '
            f'swin-mm train {short_name(cfg.filename or "CONFIG")}'
        )


def _build(cfg: Config, scope: str) -> BaseModel:
    """Builds the model of ``cfg`` with random weights, for one process; does not load its ``init_cfg``."""
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(cfg.get('default_scope', scope))
    return revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model)))  # DINO writes into its config


def _names_and_colours(loaded: dict[str, Any], cfg: Config) -> dict[str, Any]:
    """Finds the ``classes`` and ``palette`` of a checkpoint's training; raises ValueError if no names are known."""
    trained = _trained_on(loaded)
    if trained['classes'] and trained['palette']:
        return trained
    configured = _configured(cfg)
    if not trained['classes']:
        if not configured['classes']:
            raise ValueError(
                f'class names are neither in the checkpoint nor in the config: set metainfo=dict(classes=(...)) in '
                f'test_dataloader.dataset of {cfg.filename}'
            )
        trained = configured
    # Colours of other names would be as wrong as the names.
    palette = configured['palette'] if list(trained['classes']) == list(configured['classes'] or ()) else None
    return {'classes': trained['classes'], 'palette': palette or 'random'}


def _trained_on(loaded: dict[str, Any]) -> dict[str, Any]:
    """Reads the names and colours that mmengine, mmdet 2.x or mmseg 0.x wrote into a checkpoint; None if missing."""
    meta = loaded.get('meta') or {}
    names = {key.lower(): value for key, value in (meta.get('dataset_meta') or meta).items()}
    return {'classes': names.get('classes'), 'palette': names.get('palette')}


def _configured(cfg: Config) -> dict[str, Any]:
    """Reads the names and colours of the test data set, None if missing, without its annotations."""
    from mmengine.registry import DATASETS

    metainfo = DATASETS.build(dict(copy.deepcopy(_test_dataset(cfg)), pipeline=[], lazy_init=True)).metainfo
    return {'classes': metainfo.get('classes'), 'palette': metainfo.get('palette')}


def _test_dataset(cfg: Config) -> ConfigDict:
    """The settings of the first data set inside RepeatDataset, ConcatDataset and other wrappers."""
    return next(datasets_in(cfg.test_dataloader.dataset))


def _check_classes(model: nn.Module, classes: list[str], source: str | os.PathLike) -> None:
    """Raises ValueError unless there is a name for each class: names of other data would be wrong in silence."""
    predicted = getattr(head_that_predicts(model), 'num_classes', None)
    if predicted is not None and predicted != len(classes):
        raise ValueError(
            f'num_classes must be the number of class names, got num_classes={predicted} and {len(classes)} names '
            f'({", ".join(classes[:3])}, ...) for {os.fspath(source)}: set metainfo=dict(classes=(...)) in the config'
        )


def head_that_predicts(model: nn.Module) -> nn.Module | None:
    """The head of a detector or segmentor whose classes are those of the result; None for an unknown kind of model.

    Of a cascade it is the last one: its stages vote with it, on the same classes. The head of a region proposal network
    and auxiliary heads have classes of their own, so the largest number in a model would be a guess.
    """
    # The head that fuses things and stuff comes last in a model that has it, after a box head of things alone.
    places = ('panoptic_fusion_head', 'roi_head.bbox_head', 'panoptic_head', 'bbox_head', 'mask_head', 'decode_head')
    for place in places:
        head: Any = model
        for name in place.split('.'):
            head = getattr(head, name, None)
        if head is not None:
            return head[-1] if isinstance(head, nn.ModuleList) else head
    return None
