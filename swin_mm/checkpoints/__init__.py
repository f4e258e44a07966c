"""Checkpoints of any public Swin Transformer: state dicts in, state dicts out.

`recognise` names the dialect, `to_official` and `from_official` convert, `unwrap` opens containers, `adapt` prepares
weights for a backbone and reports what became of each key. ``load.py`` puts them into modules.
"""

from ..errors import CheckpointError
from .adapt import adapt, is_exact
from .containers import unwrap
from .convert import from_official, to_official
from .dialects import DIALECTS, recognise
from .report import Report
from .resize import FIRST_CONV

__all__ = [
    'DIALECTS',
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
