"""Checkpoints of any public Swin Transformer, V1 or V2: from bytes to a state dict, from any dialect to a model.

A file goes through ``files.py`` (bytes to state dict, by the table in ``formats.py``), ``convert.py`` (any dialect of
``dialects.py`` to official names), ``adapt.py`` (to exactly the tensors of a backbone, with a report) and ``load.py``
(into a module). ``write.py`` goes the other way.
"""

from ..errors import CheckpointError
from .adapt import adapt, is_exact
from .containers import unwrap
from .convert import from_official, to_official
from .dialects import DIALECTS, DIALECTS_V2
from .locate import recognise
from .report import Report
from .resize import FIRST_CONV

__all__ = [
    'DIALECTS',
    'DIALECTS_V2',
    'FIRST_CONV',
    'CheckpointError',
    'Report',
    'adapt',
    'from_official',
    'is_exact',
    'recognise',
    'to_official',
    'unwrap',
]
