"""The Swin Transformer backbone as the paper describes it: an image in, the maps of its stages out."""

from .classifier import SwinClassifier
from .swin import SwinTransformer
from .swin_v2 import SwinTransformerV2

__all__ = ['SwinClassifier', 'SwinTransformer', 'SwinTransformerV2']
