"""Data sets for configs, by name: ``type='swin_mm.ShapesDataset'``."""

from typing import Any

from swin_mm.registry import DATASETS


@DATASETS.register_module(name='ShapesDataset')
def shapes_dataset(**config: Any) -> Any:
    """A `ShapesDataset`; mmdet is imported here, so ``swin_mm.datasets.shapes`` runs without it."""
    from .coco_shapes import ShapesDataset

    return ShapesDataset(**config)
