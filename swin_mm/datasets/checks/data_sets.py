"""Tells what a data set of a config reads, before it reads anything."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ...recipes import SELF_MADE, settings_within, type_name
from .images import ImageFile, read_files
from .screen import Screen

COCO_SITE = 'http://images.cocodataset.org/'  # what mmdet takes off the addresses of LVIS


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
    if not is_coco(dataset) and not has_label_maps(dataset):
        return f'{type_name(settings)} is of no kind that this check knows'
    return None


def image_paths(dataset: Any, images: Sequence[dict]) -> list[str]:
    """The files of ``images``, entries of a COCO file that have names."""
    return [os.path.join(dataset.data_prefix.get('img') or '', image['file_name']) for image in images]


def loads_bands(settings: dict) -> bool:
    """Whether the images of a data set have several bands, and are not opened here."""
    return 'LoadBands' in steps_of(settings)


def read_images(paths: Sequence[str], settings: dict, decode: bool, screen: Screen) -> list[ImageFile]:
    """Reads the images of a data set as `read_files`; those of several bands are not opened.

    None is turned if the pipeline leaves EXIF alone, as mmcv does with these colours and decoders.
    """
    if loads_bands(settings):
        return [ImageFile(path) for path in paths]
    files = read_files(paths, decode, screen.start_bar(len(paths)))
    steps = [step for _, step in settings_within(settings, '') if 'LoadImage' in type_name(step)]
    as_stored = any(
        str(step.get('color_type')).endswith(('unchanged', '_ignore_orientation'))
        or step.get('imdecode_backend') in ('turbojpeg', 'tifffile')
        for step in steps
    )
    return [file._replace(orientation=1) for file in files] if as_stored else files


def loads_labels(settings: dict) -> bool:
    """Whether the pipeline of a data set for segmentation loads label maps."""
    return not {'LoadAnnotations', 'LoadLabels'}.isdisjoint(steps_of(settings))


def steps_of(settings: dict) -> list[str]:
    """The names of the steps of a pipeline, at any depth."""
    return [type_name(step) for _, step in settings_within(settings, '')]


def is_coco(dataset: Any) -> bool:
    """Whether a data set reads its annotations as mmdet's ``CocoDataset`` does, or LVIS's; panoptic maps are others."""
    try:
        from mmdet.datasets import CocoDataset
    except ModuleNotFoundError:  # a machine for segmentation
        return False
    return isinstance(dataset, CocoDataset) and type(dataset).parse_data_info is CocoDataset.parse_data_info


def is_lvis(dataset: Any) -> bool:
    """Whether a data set is LVIS: a COCO file whose categories are the classes, in their order, whatever their names.

    mmdet's list of names corrects one of LVIS's own (``LVISV05Dataset.load_data_list`` compares none).
    """
    from mmdet.datasets import LVISV05Dataset

    return isinstance(dataset, LVISV05Dataset)


def name_lvis_files(dataset: Any, images: Iterable[Any]) -> None:
    """Gives entries of LVIS's images the ``file_name`` that mmdet gives them."""
    from mmdet.datasets import LVISV1Dataset

    for image in (image for image in images if isinstance(image, dict)):
        if isinstance(dataset, LVISV1Dataset):
            url = image.get('coco_url')
            image['file_name'] = url.replace(COCO_SITE, '') if isinstance(url, str) else None
        elif str(image.get('file_name')).startswith('COCO'):
            image['file_name'] = image['file_name'][-16:]


def has_label_maps(dataset: Any) -> bool:
    """Whether a data set has a label map for each image, as mmseg lists them."""
    try:
        from mmseg.datasets import BaseSegDataset
    except ModuleNotFoundError:  # a machine for detection
        return False
    return isinstance(dataset, BaseSegDataset)
