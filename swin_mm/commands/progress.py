"""Says on a terminal how far a command is."""

import sys
from collections.abc import Callable
from types import TracebackType


class Progress:
    """A bar with rate and time left on stderr where that is a terminal, nothing elsewhere.

    ``count`` gives the number of steps, None if it is not known; ``done`` were made by an earlier run.
    """

    def __init__(self, count: Callable[[], int | None], done: int = 0):
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # a dependency of mmdet

            self._bar = tqdm(total=count(), initial=done, unit='image', dynamic_ncols=True)

    def step(self) -> None:
        """Counts a step."""
        if self._bar is not None:
            self._bar.update()

    def say(self, line: str) -> None:
        """Prints ``line`` on stdout, above the bar if both are on the terminal."""
        if self._bar is not None:
            self._bar.write(line)
        else:
            print(line)

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
