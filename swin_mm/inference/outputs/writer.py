"""Writes what a model finds in a stream of images, while it is at work on the next ones."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import PreflightError
from ..overlap import map_ahead
from ..predictors import Image, Predictor
from .journal import Journal
from .output import Item, Output

AHEAD = 2  # results that wait to be written


class Source(NamedTuple):
    """An ``image`` for a model with what its outputs are to know of it, as of `Item`."""

    number: int
    name: str
    source: str
    image: Image


class Written(NamedTuple):
    """The ``files`` of an image, its ``pixels`` and what was ``found``, or the ``reason`` why it has no result."""

    source: str
    files: Sequence[Path] = ()
    pixels: np.ndarray | None = None
    found: Any = None
    reason: str = ''


class Writer:
    """Writes images in all formats of ``outputs``, then a line into the journal, if there is one."""

    def __init__(self, outputs: Sequence[Output], journal: Journal | None = None):
        self.outputs, self.journal = outputs, journal
        self.growing = [file for output in outputs for file in output.growing]

    def write(self, item: Item) -> list[Path]:
        """Gives the files written; if one cannot be, the files of all images are as before."""
        journal = [self.journal.file] if self.journal is not None else []
        lengths = [(file, file.length) for file in (*self.growing, *journal)]
        try:
            files = [path for output in self.outputs for path in output.write(item)]
            if self.journal is not None:
                root = self.journal.path.parent
                grown = {file.path.relative_to(root).as_posix(): file.length for file in self.growing}
                self.journal.add(item.number, item.source, grown)
        except BaseException:
            for file, length in lengths:
                file.cut(length)
            raise
        return files

    def stream(
        self, model: Predictor, sources: Iterable[Source], batch_size: int = 1, workers: int = 0
    ) -> Generator[Written, None, None]:
        """Predicts and writes each of ``sources``; yields what was written, in order.

        With ``workers`` they read ahead as in `Predictor.stream`, and one more thread writes.
        """
        waiting: deque[Source] = deque()

        def images() -> Iterator[Image]:
            for source in sources:
                waiting.append(source)
                yield source.image

        def results() -> Iterator[tuple[Source, Any]]:
            for result in model.stream(images(), batch_size, workers):
                yield waiting.popleft(), result

        yield from map_ahead(self._write, results(), min(workers, 1), AHEAD)

    def close(self) -> None:
        """Ends all files."""
        for output in self.outputs:
            output.close()
        if self.journal is not None:
            self.journal.file.close()

    def _write(self, result: tuple[Source, Any]) -> Written:
        (number, name, source, _), found = result
        if isinstance(found, Exception):
            return Written(source, reason=str(found))
        pixels, found = found
        try:
            return Written(source, self.write(Item(number, name, source, pixels, found)), pixels, found)
        except PreflightError:  # it would be so with every image
            raise
        except Exception as error:  # a full disk, or what a drawing library says of one picture
            return Written(source, reason=f'{source}: found, but not written: {type(error).__name__}: {error}')
