"""Reads a person's own data, whatever their layout, and writes a config that trains on them."""

from .config import ARCHES, OwnConfig, choose_recipe, write_detection
from .convert import convert
from .find import find_coco
from .labels import find_classes, find_labels
from .segmentation import write_segmentation
from .split import prepare

__all__ = [
    'ARCHES',
    'OwnConfig',
    'choose_recipe',
    'convert',
    'find_classes',
    'find_coco',
    'find_labels',
    'prepare',
    'write_detection',
    'write_segmentation',
]
