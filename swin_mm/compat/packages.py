"""Installed packages as mmengine asks for them, without ``pkg_resources``, which setuptools dropped in version 82.

The same three functions as ``mmengine/utils/package_utils.py`` (0.10.7), made of importlib. Config inheritance
(``_base_ = 'mmdet::...'``) and ``mmengine.hub`` stand on them.
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
    """Replace mmengine's functions where they would fail: without ``pkg_resources``, or beside a fork."""
    if find_spec('pkg_resources') is None or _has_fork():
        for replacement in (is_installed, get_installed_path, package2module):
            rebind(getattr(package_utils, replacement.__name__), replacement)


def is_installed(package: str) -> bool:
    """True when ``package`` is the name of an installed distribution or of a module that is not a namespace."""
    try:
        distribution(package)
    except PackageNotFoundError:
        spec = _find_module(package)
        return spec is not None and spec.origin is not None
    return True


def get_installed_path(package: str) -> str:
    """Folder of the module that ``package`` installs.

    Raises PackageNotFoundError (a ModuleNotFoundError) when there is none, RuntimeError for a namespace package.
    """
    spec = _find_module(package) or find_spec(package2module(package))
    if spec is None:
        raise PackageNotFoundError(package)
    if spec.origin is None:
        raise RuntimeError(f'{package} is a namespace package: it has no single folder, name a regular package instead')
    return os.path.dirname(spec.origin)


def package2module(package: str) -> str:
    """Name of the first module that the distribution ``package`` installs.

    Raises PackageNotFoundError when it is not installed, ValueError when it does not tell.
    """
    modules = (distribution(package).read_text('top_level.txt') or '').split()
    if not modules:
        raise ValueError(f'cannot infer the module of {package}: its top_level.txt is absent or empty')
    return modules[0]


def _has_fork() -> bool:
    """True when a module such as mmseg is there and the distribution in which mmengine looks for it is not.

    ``onedl-mmengine`` 0.10.12 does not find ``onedl-mmsegmentation``, for it asks for ``mmsegmentation``.
    """
    return any(
        find_spec(module) and not any(Distribution.discover(name=package))
        for module, package in MODULE2PACKAGE.items()
        if module != package
    )


def _find_module(package: str) -> ModuleSpec | None:
    """Spec of the module that mmengine means by ``package``, None when no module goes by that name.

    By module and not by distribution: ``onedl-mmsegmentation`` also provides what mmengine calls ``mmsegmentation``,
    and an editable install keeps its module away from its metadata.
    """
    module = PACKAGE2MODULE.get(package)
    return (find_spec(module) if module else None) or find_spec(package)
