"""Swin Transformer for MMDetection and MMSegmentation.

Importing it registers ``swin_mm.SwinTransformer`` and ``swin_mm.SwinClassifier``, and lets the OpenMMLab packages run
on today's PyTorch.
"""

from . import compat

compat.install()

# mmengine must be patched before anything takes names from it.
from .backbone import SwinClassifier, SwinTransformer  # noqa: E402

__all__ = ['SwinClassifier', 'SwinTransformer']
__version__ = '0.1.0'
