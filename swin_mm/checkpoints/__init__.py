"""Checkpoints of any public Swin Transformer: state dicts in, state dicts out.

`recognise` names the dialect, `to_official` and `from_official` convert, `unwrap` opens containers, `fit` prepares
weights for a backbone and reports what became of each key.
"""

from .containers import unwrap
from .convert import from_official, to_official
from .dialects import DIALECTS, CheckpointError, recognise
from .fit import fit, fits
from .report import Report
from .resize import FIRST_CONV

__all__ = [
    'DIALECTS',
    'FIRST_CONV',
    'CheckpointError',
    'Report',
    'fit',
    'fits',
    'from_official',
    'recognise',
    'to_official',
    'unwrap',
]
