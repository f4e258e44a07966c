"""Registers data sets, loading steps and preprocessors by name: ``type='swin_mm.ShapesDataset'``.

mmcv, mmdet and mmseg are imported only when one of these is built. So ``swin_mm.datasets.shapes`` runs without all
three, and detection runs without mmseg.
"""

from typing import Any

from swin_mm.registry import DATASETS, MODELS, TRANSFORMS


@DATASETS.register_module(name='ShapesDataset')
def shapes_dataset(**config: Any) -> Any:
    """Builds a `ShapesDataset`, for MMDetection."""
    from .shapes.detection import ShapesDataset

    return ShapesDataset(**config)


@DATASETS.register_module(name='HeatShapesDataset')
def heat_shapes_dataset(**config: Any) -> Any:
    """Builds a `HeatShapesDataset`, for MMDetection."""
    from .shapes.detection import HeatShapesDataset

    return HeatShapesDataset(**config)


@DATASETS.register_module(name='ShapesSegDataset')
def shapes_seg_dataset(**config: Any) -> Any:
    """Builds a `ShapesSegDataset`, for MMSegmentation."""
    from .shapes.segmentation import ShapesSegDataset

    return ShapesSegDataset(**config)


@TRANSFORMS.register_module(name='LoadImage')
def load_image(**config: Any) -> Any:
    """Builds a `LoadImage`, for training pipelines."""
    from .load_image import LoadImage

    return LoadImage(**config)


@TRANSFORMS.register_module(name='LoadBands')
def load_bands(**config: Any) -> Any:
    """Builds a `LoadBands`, for images of any number of channels."""
    from .load_bands import LoadBands

    return LoadBands(**config)


@TRANSFORMS.register_module(name='LoadLabels')
def load_labels(**config: Any) -> Any:
    """Builds a `LoadLabels`, for MMSegmentation."""
    from .load_labels import LoadLabels

    return LoadLabels(**config)


@MODELS.register_module(name='DetDataPreprocessor')
def det_data_preprocessor(**config: Any) -> Any:
    """Builds a `DetDataPreprocessor` for any number of channels, for MMDetection."""
    from .preprocess_detection import DetDataPreprocessor

    return DetDataPreprocessor(**config)


@MODELS.register_module(name='SegDataPreProcessor')
def seg_data_preprocessor(**config: Any) -> Any:
    """Builds a `SegDataPreProcessor` for any number of channels, for MMSegmentation."""
    from .preprocess_segmentation import SegDataPreProcessor

    return SegDataPreProcessor(**config)
