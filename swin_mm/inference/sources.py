"""Where images come from: files, folders and glob patterns; and how their results are named."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from .images import SUFFIXES


def find_images(inputs: Sequence[str], suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The image files that ``inputs`` name, each once: folders and patterns in order of name, a plain path as it is.

    Of a folder they are the files with one of ``suffixes``, in small or capital letters. A file that goes by several
    paths, also through links, keeps the first. Raises FileNotFoundError for a folder or pattern without images.
    """
    found: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            images = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
        elif path.exists() or not glob.has_magic(text):
            images = [path]
        else:
            images = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not images:
            raise FileNotFoundError(f'{text}: no images found')
        found += images
    files: dict[str, Path] = {}
    for path in found:
        files.setdefault(os.path.realpath(path), path)
    return list(files.values())


class UniqueNames:
    """Names files after images, so that no two get the same name."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of names that are taken: how often each was wanted

    def name(self, path: str | os.PathLike) -> str:
        """The file name of ``path`` without suffix, numbered if it is taken."""
        wanted = name = Path(path).stem
        while name in self._numbers:
            self._numbers[wanted] += 1
            name = f'{wanted}_{self._numbers[wanted]}'
        self._numbers[name] = 1
        return name
