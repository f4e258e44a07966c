"""The embedded data set: images of shapes, drawn on first use, for detection and for segmentation."""

from .write import CLASSES, MANIFEST, PALETTE, write_shapes

__all__ = ['CLASSES', 'MANIFEST', 'PALETTE', 'write_shapes']
