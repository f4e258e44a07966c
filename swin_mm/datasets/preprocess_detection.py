"""MMDetection's data preprocessor for any number of channels; configs name it ``swin_mm.DetDataPreprocessor``."""

from mmdet.models.data_preprocessors import DetDataPreprocessor as Stock

from .preprocessor import AnyChannels


class DetDataPreprocessor(AnyChannels, Stock):
    """mmdet's ``DetDataPreprocessor`` for any number of channels; masks and ``batch_augments`` are as there."""
