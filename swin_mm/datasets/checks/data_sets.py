"""Tells what a data set of a config reads, before it reads anything."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ...recipes import SELF_MADE, settings_within, type_name


def learns_masks(cfg: Config) -> bool:
    """Whether the training of ``cfg`` loads masks."""
    train = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    return any(step.get('with_mask') for _, step in settings_within(train, ''))


def build_unread(settings: dict) -> Any:
    """Builds a data set that has read no file: it knows what its class says of the classes, and joins its paths."""
    return DATASETS.build(dict(settings, lazy_init=True, pipeline=[]))


def reason_unchecked(dataset: Any, settings: dict) -> str | None:
    """Says why a data set cannot be checked; None if it can."""
    paths = [path for path in (dataset.ann_file, *dataset.data_prefix.values()) if path]
    if any('://' in path for path in paths) or getattr(dataset, 'backend_args', None):
        return 'its files are in a storage backend'
    if type_name(settings) in SELF_MADE and not any(map(os.path.exists, paths)):
        return 'it is drawn on first use'
    if not is_coco(dataset) and not _has_label_maps(dataset):
        return f'{type_name(settings)} is of no kind that this check knows'
    return None


def image_paths(dataset: Any, images: Sequence[dict]) -> list[str]:
    """The files of ``images``, entries of a COCO file that have names."""
    return [os.path.join(dataset.data_prefix.get('img') or '', image['file_name']) for image in images]


def loads_bands(settings: dict) -> bool:
    """Whether the images of a data set have several bands, and are not opened here."""
    return 'LoadBands' in steps_of(settings)


def loads_labels(settings: dict) -> bool:
    """Whether the pipeline of a data set for segmentation loads label maps."""
    return not {'LoadAnnotations', 'LoadLabels'}.isdisjoint(steps_of(settings))


def steps_of(settings: dict) -> list[str]:
    """The names of the steps of a pipeline, at any depth."""
    return [type_name(step) for _, step in settings_within(settings, '')]


def is_coco(dataset: Any) -> bool:
    """Whether a data set reads its annotations as mmdet's ``CocoDataset`` does; LVIS and panoptic maps are others."""
    try:
        from mmdet.datasets import CocoDataset, LVISV05Dataset
    except ModuleNotFoundError:  # a machine for segmentation
        return False
    return (
        isinstance(dataset, CocoDataset)
        and not isinstance(dataset, LVISV05Dataset)
        and type(dataset).parse_data_info is CocoDataset.parse_data_info
    )


def _has_label_maps(dataset: Any) -> bool:
    try:
        from mmseg.datasets import BaseSegDataset
    except ModuleNotFoundError:  # a machine for detection
        return False
    return isinstance(dataset, BaseSegDataset)
