"""Hooks, loops and checks of a run; one concern a file. Importing it registers the hooks."""

from . import failures, finite, missing_images, resuming, saving, signals, weights  # noqa: F401
