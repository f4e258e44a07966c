"""How the files of results are named."""

import os
from pathlib import Path


class UniqueNames:
    """Names files after images, so that no two get the same name."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of names that are taken: how often each was wanted

    def name(self, path: str | os.PathLike) -> str:
        """The file name of ``path`` without suffix, numbered if it is taken."""
        return self.unique(Path(path).stem)

    def unique(self, wanted: str) -> str:
        """``wanted``, numbered if it is taken; it may hold folders."""
        name = wanted
        while name in self._numbers:
            self._numbers[wanted] += 1
            name = f'{wanted}_{self._numbers[wanted]}'
        self._numbers[name] = 1
        return name
