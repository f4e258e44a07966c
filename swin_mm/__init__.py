"""Swin Transformer for MMDetection and MMSegmentation.

Importing it registers ``swin_mm.SwinTransformer`` and lets the OpenMMLab packages run on today's PyTorch.
"""

from . import compat

compat.install()

from .backbone import SwinTransformer  # noqa: E402  mmengine must be patched before anything takes names from it

__all__ = ['SwinTransformer']
__version__ = '0.1.0'
