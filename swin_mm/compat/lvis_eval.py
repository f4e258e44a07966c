"""Lets lvis 0.5.3, the newest on PyPI, score on NumPy 1.24 and later, which have no ``np.float``.

``LVISEval.accumulate`` asks for it, so each evaluation of mmdet's ``LVISMetric`` fails. The code on GitHub is mended.
"""

from importlib import import_module
from types import ModuleType

import numpy as np


def install() -> None:
    """Gives the module ``lvis.eval`` a NumPy of its own, with the name; everybody else's stays as it is."""
    numpy = ModuleType(np.__name__)
    vars(numpy).update(vars(np), float=float)
    vars(import_module('lvis.eval'))['np'] = numpy
