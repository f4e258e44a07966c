"""Where images come from: files, folders and glob patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.gif')


def find_images(inputs: Sequence[str]) -> list[Path]:
    """The image files that ``inputs`` name, each once: folders and patterns in order of name, a plain path as it is.

    Raises FileNotFoundError for a folder or pattern without images.
    """
    found: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
        elif path.exists() or not glob.has_magic(text):
            images = [path]
        else:
            images = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not images:
            raise FileNotFoundError(f'{text}: no images found')
        found += images
    return list(dict.fromkeys(found))


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name without suffix for each path, numbered where several would be the same."""
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for path in paths:
        name, number = path.stem, numbers.get(path.stem, 2)
        while name in names:
            name, number = f'{path.stem}_{number}', number + 1
        names[name], numbers[path.stem] = None, number
    return list(names)
