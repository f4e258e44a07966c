"""The hooks and checks of a training or test run, one concern a file. Importing this package registers the hooks."""

from . import failures, finite, missing_images, resuming, saving, signals, weights  # noqa: F401
