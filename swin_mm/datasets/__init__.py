"""Data sets for configs, by name: ``type='swin_mm.ShapesDataset'``, ``type='swin_mm.ShapesSegDataset'``.

mmdet and mmseg are imported when a data set is built, so ``swin_mm.datasets.shapes`` runs without them.
"""

from typing import Any

from swin_mm.registry import DATASETS


@DATASETS.register_module(name='ShapesDataset')
def shapes_dataset(**config: Any) -> Any:
    """A `ShapesDataset`, for MMDetection."""
    from .coco_shapes import ShapesDataset

    return ShapesDataset(**config)


@DATASETS.register_module(name='ShapesSegDataset')
def shapes_seg_dataset(**config: Any) -> Any:
    """A `ShapesSegDataset`, for MMSegmentation."""
    from .seg_shapes import ShapesSegDataset

    return ShapesSegDataset(**config)
