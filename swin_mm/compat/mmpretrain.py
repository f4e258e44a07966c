"""mmpretrain 1.2 beside transformers 5: importable, without its language models.

They derive from classes that transformers no longer has where mmpretrain looks for them. As they are imported with
everything else, ``import mmpretrain`` fails with a TypeError, and so does mmdet, which only expects an ImportError.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

LANGUAGE_MODELS = 'mmpretrain.models.multimodal'


def install() -> None:
    """Put an empty module in the place of the language models where they cannot be imported."""
    if find_spec('mmpretrain') is not None and _major('transformers') >= 5:
        sys.modules.setdefault(LANGUAGE_MODELS, ModuleType(LANGUAGE_MODELS, __doc__))


def _major(package: str) -> int:
    """The first number of the installed version, 0 if there is none."""
    try:
        return int(version(package).partition('.')[0])
    except PackageNotFoundError:
        return 0
