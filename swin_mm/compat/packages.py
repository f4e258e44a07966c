"""Finds installed packages for mmengine without ``pkg_resources``, which setuptools dropped in version 82.

These are the same three functions as in ``mmengine/utils/package_utils.py`` (0.10.7), made of importlib. Config
inheritance (``_base_ = 'mmdet::...'``) and ``mmengine.hub`` need them.
"""

import os
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import package_utils

from .rebind import rebind

PACKAGE2MODULE = {package: module for module, package in MODULE2PACKAGE.items()}


def install() -> None:
    """Replaces mmengine's functions where they would fail: without ``pkg_resources``, or beside a fork."""
    if find_spec('pkg_resources') is None or _has_fork():
        for replacement in (is_installed, get_installed_path, package2module):
            rebind(getattr(package_utils, replacement.__name__), replacement)


def is_installed(package: str) -> bool:
    """Whether ``package`` is the name of an installed distribution or of a module that is not a namespace."""
    try:
        distribution(package)
    except PackageNotFoundError:
        spec = _find_module(package)
        return spec is not None and spec.origin is not None
    return True


def get_installed_path(package: str) -> str:
    """Gives the folder of the module that ``package`` installs.

    Raises PackageNotFoundError (a ModuleNotFoundError) if there is none, RuntimeError for a namespace package.
    """
    spec = _find_module(package) or find_spec(package2module(package))
    if spec is None:
        raise PackageNotFoundError(package)
    if spec.origin is None:
        raise RuntimeError(f'{package} is a namespace package: it has no single folder, name a regular package instead')
    return os.path.dirname(spec.origin)


def package2module(package: str) -> str:
    """Gives the name of the first module that the distribution ``package`` installs.

    Raises PackageNotFoundError if it is not installed, ValueError if its metadata do not tell.
    """
    modules = (distribution(package).read_text('top_level.txt') or '').split()
    if not modules:
        raise ValueError(f'cannot infer the module of {package}: its top_level.txt is absent or empty')
    return modules[0]


def _has_fork() -> bool:
    """Whether a module such as mmseg is there without the distribution in which mmengine looks for it.

    ``onedl-mmengine`` 0.10.12 does not find ``onedl-mmsegmentation``, because it asks for ``mmsegmentation``.
    """
    return any(
        find_spec(module) and not any(Distribution.discover(name=package))
        for module, package in MODULE2PACKAGE.items()
        if module != package
    )


def _find_module(package: str) -> ModuleSpec | None:
    """Gives the spec of the module that mmengine means by ``package``; None if no module goes by that name.

    It looks for a module and not for a distribution: ``onedl-mmsegmentation`` also provides what mmengine calls
    ``mmsegmentation``, and an editable install keeps its module away from its metadata.
    """
    module = PACKAGE2MODULE.get(package)
    spec = find_spec(module) if module else None
    return spec or find_spec(package)
