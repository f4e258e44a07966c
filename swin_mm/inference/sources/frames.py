"""Images that follow each other: the frames of cameras and of numbered files."""

import re
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from ..prepared import Image, NamedImage

RATE = 25  # frames a second of files, which have no times
PATTERN = re.compile(r'%(?:0(\d+))?d')  # of the C function printf, as ffmpeg writes it
CAMERA = re.compile(r'camera:(\d+)')


class Frame(NamedTuple):
    """An image of a clip, or why there is none: its ``number``, and its ``time`` in seconds from the first frame."""

    number: int
    time: float
    image: Image | Exception


def read_camera(text: str, every: int = 1) -> Iterator[Frame]:
    """Yields each ``every``-th frame of a camera, ``camera:0``, until it fails; times are those of a clock."""
    import cv2  # PyAV knows a camera by another name on each system

    camera = cv2.VideoCapture(int(text.removeprefix('camera:')))
    began = time.monotonic()
    try:
        for number in count():
            now = time.monotonic() - began
            if not camera.grab():
                what = 'gives no more images' if number else 'cannot be opened: is it there, and does no other use it?'
                yield Frame(number, now, OSError(f'{text}: {what}'))
                return
            if number % every == 0:
                yield Frame(number, now, NamedImage(f'{text} frame {number}', camera.retrieve()[1]))
    finally:
        camera.release()


def numbered_files(pattern: Path) -> list[tuple[int, Path]]:
    """The files that a pattern such as ``frames/%05d.png`` means, by their numbers."""
    before, digits, after = PATTERN.split(pattern.name, maxsplit=1)
    meant = re.compile(rf'{re.escape(before)}(\d{{{digits or 1},}}){re.escape(after)}')
    names = [path.name for path in pattern.parent.iterdir()] if pattern.parent.is_dir() else []
    found = [(int(match[1]), pattern.parent / match[0]) for match in map(meant.fullmatch, names) if match]
    return sorted(found)


def in_natural_order(paths: Iterator[Path]) -> list[tuple[int, Path]]:
    """Sorts files as a person counts, 9 before 10, and numbers them from 0."""

    def key(path: Path) -> list[str | int]:
        return [int(part) if i % 2 else part for i, part in enumerate(re.split(r'(\d+)', path.name))]

    return list(enumerate(sorted(paths, key=key)))


def read_files(files: list[tuple[int, Path]], every: int = 1) -> Iterator[Frame]:
    """Yields each ``every``-th of numbered files, at 25 a second."""
    for i, (number, path) in islice(enumerate(files), 0, None, every):
        yield Frame(number, i / RATE, path)
