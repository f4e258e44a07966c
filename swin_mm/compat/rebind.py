"""Replaces a function in every module that holds it."""

import sys
from collections.abc import Callable


def rebind(original: Callable, replacement: Callable) -> None:
    """Puts ``replacement`` under every name that ``original`` has in the loaded modules of mmengine.

    mmengine's modules import functions by name from each other. So to replace a function only where it is defined would
    leave the other modules with the old one. A module that is imported later takes the new one.
    """
    for module_name, module in list(sys.modules.items()):
        if module_name.partition('.')[0] == 'mmengine':
            for name in [name for name, value in vars(module).items() if value is original]:
                setattr(module, name, replacement)
