"""Where a checkpoint is: a path, an ``https://`` address or ``hf://owner/name``, and how each becomes a file here."""

import os
from pathlib import Path

from . import downloads, hub


def is_remote(source: str | os.PathLike) -> bool:
    """Whether ``source`` is an address, not a path."""
    return downloads.is_url(source) or hub.is_hub(source)


def local_file(source: str | os.PathLike) -> Path:
    """Gives the file of ``source``, downloaded if need be: see `downloads.fetch` and `hub.fetch`, also for errors.

    A path is not looked at.
    """
    name = os.fspath(source)
    if hub.is_hub(name):
        return hub.fetch(name)
    return downloads.fetch(name) if downloads.is_url(name) else Path(name).expanduser()
