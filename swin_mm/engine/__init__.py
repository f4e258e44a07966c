"""The hooks and checks of a training or test run, one concern a file.

Importing this package registers hooks, optimizer wrappers and their constructors, and model wrappers.
"""

from . import (  # noqa: F401
    curves,
    failures,
    fast,
    finite,
    layer_decay,
    missing_images,
    resuming,
    saving,
    sharded,
    signals,
    weights,
)
