"""Swin Transformer for MMDetection and MMSegmentation.

    found = swin_mm.Detector('mask_rcnn_swin_t')('street.jpg')[0]

Importing it lets the OpenMMLab packages run on today's PyTorch. They and PyTorch are imported when they are needed;
``type='swin_mm.SwinTransformer'`` in a config registers the backbones.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import compat

if TYPE_CHECKING:
    from .backbone import SwinClassifier, SwinTransformer, SwinTransformerV2
    from .inference import Detector, Segmentor

__all__ = ['Detector', 'Segmentor', 'SwinClassifier', 'SwinTransformer', 'SwinTransformerV2']
__version__ = '0.1.0'

compat.install()


def __getattr__(name: str) -> Any:
    if name in __all__:
        room = 'inference' if name in ('Detector', 'Segmentor') else 'backbone'
        return getattr(import_module(f'swin_mm.{room}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
