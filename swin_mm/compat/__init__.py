"""Makes mmcv, mmengine, mmdet and mmseg run on today's PyTorch; to be deleted when they do so by themselves."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
    * ``fsdp`` lets its FSDPStrategy resume an optimizer.
    * ``recipe_bases`` gives a meaning to ``_base_ = 'swin_mm::NAME.py'``.

    As soon as mmdet's models are imported:

    * ``autocast`` keeps boxes in float32 under ``torch.autocast``.

    As soon as the package lvis is imported:

    * ``lvis_eval`` lets it score on a NumPy without ``np.float``.
    """
    mmcv_ops.install()
    mmpretrain.install()
    patches = (('mmengine', _patch_mmengine), ('mmdet.models', _patch_mmdet), ('lvis.eval', _patch_lvis))
    for name, patch in patches:
        if sys.modules.get(name) is not None:
            patch()
        else:
            sys.meta_path.insert(0, _Finder(name, patch))


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
    from . import fsdp, mmengine_checkpoints, packages, recipe_bases

    fsdp.install()
    mmengine_checkpoints.install()
    packages.install()
    recipe_bases.install()


def _patch_mmdet() -> None:
    from . import autocast

    autocast.install()


def _patch_lvis() -> None:
    from . import lvis_eval

    lvis_eval.install()


class _Finder(MetaPathFinder):
    """Waits until the module ``name`` is imported, and calls ``patch`` as soon as it is whole.

    It stays if somebody only asks whether the module is there, or if its import fails, and then succeeds later.
    """

    def __init__(self, name: str, patch: Callable[[], None]) -> None:
        self.name, self.patch = name, patch
        self._asks_others = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Gives the spec of the module that another finder has, with a loader that patches at the end."""
        if fullname != self.name or self._asks_others:
            return None
        self._asks_others = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asks_others = False
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader, self)
        return spec


class _PatchingLoader(Loader):
    """Loads a module with its own loader, then patches it."""

    def __init__(self, loader: Loader, finder: _Finder):
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # data, source: what else a loader may be asked for

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leaves it to the module's own loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Executes ``module``, and patches it once."""
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
            self._finder.patch()
