"""Writes what a model finds in a stream of images, while it is at work on the next ones."""

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import PreflightError
from ..overlap import map_ahead
from ..predictors import Predictor
from ..sources import Source, results_of
from ..video import ClipWriter
from .journal import Journal
from .output import Item, Output

AHEAD = 2  # results that wait to be written


class Written(NamedTuple):
    """The ``files`` of an image, its ``pixels`` and what was ``found``, or the ``reason`` why it has no result."""

    source: str
    files: Sequence[Path] = ()
    pixels: np.ndarray | None = None
    found: Any = None
    reason: str = ''
    is_frame: bool = False


class Writer:
    """Writes images in all formats of ``outputs``, then a line into the journal, if there is one.

    ``clips`` follows the objects of frames and writes videos.
    """

    def __init__(self, outputs: Sequence[Output], journal: Journal | None = None, clips: ClipWriter | None = None):
        self.outputs, self.journal, self.clips = outputs, journal, clips
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

        With ``workers`` they read ahead as in `Predictor.stream`, and one more thread writes. A video is among the
        files of the image behind it; the last one is whole when the writer is closed.
        """
        results = results_of(model, sources, batch_size, workers)
        yield from map_ahead(self._write, results, min(workers, 1), AHEAD)

    def close(self) -> list[Path]:
        """Ends all files; gives the last video."""
        for output in self.outputs:
            output.close()
        if self.journal is not None:
            self.journal.file.close()
        return [] if self.clips is None else self.clips.turn_to(None)

    def _write(self, result: tuple[Source, Any]) -> Written:
        source, found = result
        name, is_frame = str(source), source.clip is not None
        files: list[Path] = []
        lost = ''
        try:
            if self.clips is not None:
                files += self.clips.turn_to(source.clip)
        except Exception as error:  # no fault of this image
            lost = f'the video before {name} is not whole: {type(error).__name__}: {error}'
        try:
            if isinstance(found, Exception):
                return Written(name, files, reason=str(found))
            pixels, found = found
            if self.clips is not None and is_frame:
                found = self.clips.add(source.time, pixels, found)
            files += self.write(Item(source.number, source.name, name, pixels, found, is_frame))
            return Written(name, files, pixels, found, lost, is_frame)
        except PreflightError:  # it would be so with every image
            raise
        except Exception as error:  # a full disk, or what a drawing library says of one picture
            return Written(name, files, reason=f'{name}: found, but not written: {type(error).__name__}: {error}')
