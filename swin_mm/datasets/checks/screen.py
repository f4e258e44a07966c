"""Shows that a check of large data goes on."""

import os
from collections.abc import Callable
from typing import TextIO

from mmengine.utils import ProgressBar

from ...errors import megabytes

LARGE = 10_000_000  # bytes of annotations, half a second


class Screen:
    """Where a person sees how far a check is; nothing is shown without a ``terminal``, or on a file that is none."""

    def __init__(self, terminal: TextIO | None = None):
        self.terminal = terminal if terminal and terminal.isatty() else None

    def show_reading(self, path: str) -> None:
        """Says that a large file is being read, which shows no progress of its own."""
        if self.terminal and os.path.isfile(path) and os.path.getsize(path) >= LARGE:
            print(f'reading {path} ({megabytes(os.path.getsize(path))})', file=self.terminal, flush=True)

    def start_bar(self, files: int) -> Callable[[int], object] | None:
        """Starts a bar of so many files; gives what is to be told how many more are done."""
        return ProgressBar(files, file=self.terminal).update if self.terminal and files else None
