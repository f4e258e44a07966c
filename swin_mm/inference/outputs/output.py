"""What the formats of outputs share: the images that they are given, files that grow, and the protocol."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..drawing import SCORE
from ..images import PictureReader, Reader

TASKS = ('detection', 'segmentation')


class Item(NamedTuple):
    """An image with its result: ``number`` counts the inputs from 1, files take ``name``, ``source`` is its path.

    ``pixels`` are as `Predictor.read` gives them. ``source`` is a name if the image is no file. ``is_frame``: it is one
    of a clip, which has a video in place of drawn images.
    """

    number: int
    name: str
    source: str
    pixels: np.ndarray
    found: Any
    is_frame: bool = False


@dataclass(frozen=True)
class Job:
    """What the outputs of a run are to know.

    ``score``: objects with less are left out by formats that show or teach objects. ``drawing``: arguments of ``plot``.
    ``lengths``: those in bytes that growing files are cut back to when a run goes on, by their paths in ``folder``.
    ``part``: the end of the names of growing files, '_1_of_2' of a process that shares ``folder`` with another.
    """

    folder: Path
    classes: Sequence[str]
    reader: Reader = field(default_factory=PictureReader)
    score: float = SCORE
    drawing: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    part: str = ''


class GrowingFile:
    """A text file of records, cut back to ``length`` bytes, for None begun with ``start``.

    ``between`` stands between two records, ``end`` behind the last one once the file is closed. Nothing is buffered: a
    record that was added is the operating system's, so a killed process does not lose it.
    """

    def __init__(self, path: Path, start: str = '', between: str = '', end: str = '', length: int | None = None):
        self.path, self.between, self.end = path, between, end
        self._start = len(start.encode())
        self._file = open(path, 'wb' if length is None else 'r+b', buffering=0)  # noqa: SIM115  `close` closes it
        self.length = 0
        if length is None:
            self._write(start)
        else:
            self.cut(length)

    def add(self, records: Sequence[str]) -> None:
        """Adds ``records`` at the end."""
        if records:
            self._write((self.between if self.length > self._start else '') + self.between.join(records))

    def cut(self, length: int) -> None:
        """Leaves the first ``length`` bytes."""
        self._file.seek(length)
        self._file.truncate()
        self.length = length

    def close(self) -> None:
        """Ends the file; it is cut back to what was added if it is opened again."""
        if not self._file.closed:
            self._write(self.end)
            self._file.close()

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode(errors='surrogateescape'))  # a file may have any name
        while rest:
            rest = rest[self._file.write(rest) :]
        self.length = self._file.tell()


class Output(ABC):
    """Writes each image in one format, at once, below ``job.folder``; nothing of an image is kept.

    ``place``: the folder in it. ``tasks``: those with results that the format can hold. ``growing``: files of all
    images. An image may be written a second time, over what is there, if a run was killed in between.
    """

    place: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]] = TASKS

    def __init__(self, job: Job):
        self.job = job
        self.folder = job.folder / self.place
        self.growing: list[GrowingFile] = []

    def grow(self, name: str, start: str = '', between: str = '', end: str = '') -> GrowingFile:
        """Opens a file in the folder that all images are added to."""
        path = self.folder / f'{Path(name).stem}{self.job.part}{Path(name).suffix}'
        length = self.job.lengths.get(path.relative_to(self.job.folder).as_posix())
        self.growing.append(GrowingFile(path, start, between, end, length))
        return self.growing[-1]

    def path(self, item: Item, end: str) -> Path:
        """Gives the file of an image whose name ends in ``end``; makes the folders that the name is below."""
        path = self.folder / f'{item.name}{end}'
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @abstractmethod
    def write(self, item: Item) -> Iterator[Path]:
        """Writes an image; yields the files that are its own, whole when they are given."""

    def close(self) -> None:
        """Ends the growing files."""
        for file in self.growing:
            file.close()


def path_part(text: str) -> str:
    """``text``, which may be any class name, as the name of a file or folder."""
    safe = ''.join('_' if c in (os.sep, os.altsep, '\\', '\0') else c for c in text)
    return '_' if safe.strip('.') == '' else safe
