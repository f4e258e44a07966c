"""What mmcv, mmengine, mmdet and mmseg need on today's PyTorch; deleted the day that they no longer do."""

import functools
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from . import mmcv_ops, mmpretrain

__all__ = ['install', 'trust_no_file']


@functools.cache
def install() -> None:
    """Puts in place, once, whatever the stack needs to run at all. Imports nothing itself, PyTorch included.

    * ``mmcv_ops``: a ``mmcv._ext`` without a compiler; a native build comes first.
    * ``mmpretrain``: beside transformers 5 it stops neither itself nor mmdet from being imported.
    * As soon as mmengine is imported:
      ``mmengine_checkpoints``: ``torch.load(weights_only=True)`` reads what mmengine saves, and mmengine loads
      nothing else. ``packages``: ``_base_ = 'mmdet::...'`` and ``mmengine.hub`` where setuptools has no
      ``pkg_resources``. ``recipe_bases``: ``_base_ = 'swin_mm::NAME.py'``.
    """
    mmcv_ops.install()
    mmpretrain.install()
    if 'mmengine' in sys.modules:
        _patch_mmengine()
    else:
        sys.meta_path.insert(0, _MmengineFinder())


@functools.cache
def trust_no_file() -> None:
    """Lets mmengine run nothing that a file holds. Our commands call it; a library user's mmengine stays as it is.

    * ``untrusted``: no config of a checkpoint, no tag of a YAML file and no name of a pickle runs.
    * ``collect_results``: processes hand over their results where nobody else can.
    """
    from . import collect_results, untrusted

    untrusted.install()
    collect_results.install()


def _patch_mmengine() -> None:
    from . import mmengine_checkpoints, packages, recipe_bases

    mmengine_checkpoints.install()
    packages.install()
    recipe_bases.install()


class _MmengineFinder(MetaPathFinder):
    """Waits for the first import of mmengine, which is then patched as soon as it is whole."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of ``mmengine``, whose loader patches it at the end; None for every other name."""
        if fullname != 'mmengine':
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            _patch_mmengine()

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]  # of this one loader object
        return spec
