"""Makes mmpretrain 1.2 importable beside transformers 5, without its language models.

These models derive from classes that transformers no longer has where mmpretrain looks for them. They are imported with
everything else, so ``import mmpretrain`` fails with a TypeError. mmdet then fails too: it only expects an ImportError.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

LANGUAGE_MODELS = 'mmpretrain.models.multimodal'


def install() -> None:
    """Puts an empty module in the place of the language models if they cannot be imported."""
    if find_spec('mmpretrain') is not None and _major_version('transformers') >= 5:
        sys.modules.setdefault(LANGUAGE_MODELS, ModuleType(LANGUAGE_MODELS, __doc__))


def _major_version(package: str) -> int:
    """Gives the first number of the installed version; 0 if the package is not installed."""
    try:
        return int(version(package).partition('.')[0])
    except PackageNotFoundError:
        return 0
