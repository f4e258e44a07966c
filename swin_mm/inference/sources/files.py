"""Image files on disk: plain paths, folders with all below them, and glob patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..images import SUFFIXES


def find_images(inputs: Sequence[str], suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The image files that ``inputs`` name, each once: folders and patterns in order of name, a plain path as it is.

    Of a folder and the folders below they are the files with one of ``suffixes``, in small or capital letters. A file
    that goes by several paths, also through links, keeps the first. Raises FileNotFoundError for a folder or pattern
    without images, OSError for a folder that cannot be read.
    """
    files: dict[str, Path] = {}
    for text in inputs:
        found = False
        for path, _ in named_files(text, suffixes):
            if isinstance(path, OSError):
                raise path
            found = True
            files.setdefault(os.path.realpath(path), path)
        if not found:
            raise FileNotFoundError(f'{text}: no images found')
    return list(files.values())


def named_files(
    text: str, suffixes: Sequence[str], left_out: str | os.PathLike | None = None
) -> Iterator[tuple[Path | OSError, str]]:
    """Yields each image file that ``text`` names, and the path of its results, without suffix.

    A file in a folder, or one that a pattern matches, has a name that keeps the folders below: ``a/x`` for
    ``photos/a/x.jpg`` of ``photos``. The folder ``left_out`` is not entered from above. Yields an OSError with its
    reason in place of the files of a folder that cannot be read.
    """
    path = Path(text)
    if path.is_dir():
        root, found = path, iter([path])
    elif path.exists() or not glob.has_magic(text):
        yield path, path.stem
        return
    else:
        magic = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        root, found = Path(*path.parts[:magic]), map(Path, sorted(glob.glob(text, recursive=True)))
    entered = {os.path.realpath(left_out)} if left_out else set()
    for one in found:
        if left_out and one != path and Path(os.path.realpath(one)).is_relative_to(os.path.realpath(left_out)):
            continue  # what a pattern finds among the results
        for file in _below(one, suffixes, entered) if one.is_dir() else [one]:
            yield file, '' if isinstance(file, OSError) else os.fspath(file.relative_to(root).with_suffix(''))


def _below(folder: Path, suffixes: Sequence[str], entered: set[str]) -> Iterator[Path | OSError]:
    """Yields the images of a folder, then those of its folders; each folder once, so a circle of links ends.

    Hidden folders, such as .thumbnails, hold copies and are not entered.
    """
    entered.add(os.path.realpath(folder))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield type(error)(f'{folder}: {error.strerror}')
        return
    folders = []
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            folders.append(path)
        elif path.suffix.lower() in suffixes:
            yield path
    for below in folders:
        if not below.name.startswith('.') and os.path.realpath(below) not in entered:
            yield from _below(below, suffixes, entered)
