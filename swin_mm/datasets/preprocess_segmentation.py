"""MMSegmentation's data preprocessor for any number of channels; configs name it ``swin_mm.SegDataPreProcessor``."""

from mmseg.models import SegDataPreProcessor as Stock

from .preprocessor import AnyChannels


class SegDataPreProcessor(AnyChannels, Stock):
    """mmseg's ``SegDataPreProcessor`` for any number of channels; label maps are padded as there."""
