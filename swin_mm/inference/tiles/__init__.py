"""Images too large for memory: read by region, predicted in tiles, joined without doubles, halves or seams."""

from .grid import tile_rows
from .objects import Objects, detect_in_tiles
from .pixels import segment_in_tiles
from .raster import Raster
from .writing import write_labels, write_objects

__all__ = ['Objects', 'Raster', 'detect_in_tiles', 'segment_in_tiles', 'tile_rows', 'write_labels', 'write_objects']
