"""Makes mmcv, mmengine, mmdet and mmseg run on today's PyTorch; to be deleted when they do so by themselves."""

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
    """Puts in place, once, whatever the stack needs to run at all. It imports none of it, nor PyTorch.

    At once:

    * ``mmcv_ops`` offers a ``mmcv._ext`` that needs no compiler; a native build comes first.
    * ``mmpretrain`` makes mmpretrain, and so mmdet, importable beside transformers 5.

    As soon as mmengine is imported:

    * ``mmengine_checkpoints`` makes mmengine save what ``torch.load(weights_only=True)`` reads, and load nothing else.
    * ``packages`` replaces ``pkg_resources``, where setuptools has none, in ``_base_ = 'mmdet::...'`` and
      ``mmengine.hub``.
    * ``recipe_bases`` gives a meaning to ``_base_ = 'swin_mm::NAME.py'``.
    """
    mmcv_ops.install()
    mmpretrain.install()
    if 'mmengine' in sys.modules:
        _patch_mmengine()
    else:
        sys.meta_path.insert(0, _MmengineFinder())


@functools.cache
def trust_no_file() -> None:
    """Keeps mmengine from running code out of files. Our commands call it; a library user's mmengine stays as it is.

    * ``untrusted`` keeps the config of a checkpoint, a tag of a YAML file and a name in a pickle from being run.
    * ``collect_results`` lets processes hand over their results in a place where nobody else can.
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
    """Waits for the first import of mmengine, and patches mmengine as soon as it is whole."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Gives the spec of ``mmengine``, whose loader patches it at the end; None for every other name."""
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
