"""Swin Transformer for MMDetection and MMSegmentation.

Importing it lets the OpenMMLab packages run on today's PyTorch. They and PyTorch are imported when they are needed;
``type='swin_mm.SwinTransformer'`` in a config registers the backbones.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import compat

if TYPE_CHECKING:
    from .backbone import SwinClassifier, SwinTransformer, SwinTransformerV2

__all__ = ['SwinClassifier', 'SwinTransformer', 'SwinTransformerV2']
__version__ = '0.1.0'

compat.install()


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module('swin_mm.backbone'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
