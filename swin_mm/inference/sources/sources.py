"""The images that the words of a command line name, one after the other."""

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ...checkpoints.downloads import is_url
from ..images import MAX_PIXELS, SUFFIXES, image_name
from ..predictors import Predictor
from ..prepared import Image, NamedImage
from .files import named_files
from .frames import CAMERA, PATTERN, Frame, in_natural_order, numbered_files, read_camera, read_files
from .names import UniqueNames
from .video_files import SUFFIXES as VIDEO_SUFFIXES
from .video_files import check_installed, read_video

LIST_SUFFIX = '.txt'


class Source(NamedTuple):
    """An image, or why there is none, and the ``name`` of its results: a path below their folder, without suffix.

    A frame has the name of the results of its ``clip``, and its ``time`` in seconds from the first frame. ``number``
    counts from 1; no two processes that share the inputs give one twice.
    """

    name: str
    image: Image | Exception
    clip: str | None = None
    time: float = 0.0
    number: int = 1

    def __str__(self) -> str:
        """How messages call the image."""
        if isinstance(self.image, NamedImage):
            return self.image.name
        return image_name(self.image) if isinstance(self.image, str | os.PathLike) else self.name


class Clip(NamedTuple):
    """A video, a camera or files that are frames: ``frames(every)`` reads each ``every``-th; ``path``: its file."""

    frames: Callable[[int], Iterator[Frame]]
    path: Path | None = None


Named = tuple[str, Image | Exception | Clip]  # an image or a clip, and the name that its results want


class Sources:
    """The images that ``inputs`` name, each file once, one after the other.

    An input is an image file, a folder (with all below it), a glob pattern, an http or https URL, a video, a camera
    (``camera:0``), numbered files (``frames/%05d.png``), a list (``.txt``, with an input a line, relative to the list),
    or ``-`` for a list on standard input. Of folders they are the files with one of ``suffixes``. Files are read by
    whoever takes them, videos a frame at a time.

    ``every``: takes each N-th frame. ``folders_are_clips``: the images of a folder are frames, in natural order.
    ``shard`` 'K/N': takes each N-th image or clip from the Kth on, under the name that it has among all; so N processes
    take each once. ``max_pixels`` of a video's frames. ``left_out``: a folder that is not entered from above, such as
    that of the results. ``taken`` counts the images given so far.

    Raises FileNotFoundError for a folder or pattern without images. What is wrong with a line of a list is an
    exception in place of the image.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        suffixes: Sequence[str] = SUFFIXES,
        *,
        every: int = 1,
        folders_are_clips: bool = False,
        shard: str = '1/1',
        max_pixels: int = MAX_PIXELS,
        left_out: str | os.PathLike | None = None,
    ):
        if every < 1:
            raise ValueError(f'every must be at least 1, got {every}')
        self.inputs, self.suffixes, self.every, self.left_out = list(inputs), suffixes, every, left_out
        self.folders_are_clips, self.shard, self.max_pixels = folders_are_clips, part_of(shard), max_pixels
        self.taken = 0
        for text in self.inputs:
            if text != '-' and not _is_list(text):
                next(self._named(text))  # raises if there is none

    def __iter__(self) -> Iterator[Source]:
        names, files, turns = UniqueNames(), set(), cycle(range(1, self.shard[1] + 1))
        self.taken = 0
        for wanted, image in (named for text in self.inputs for named in self._named(text)):
            path = image.path if isinstance(image, Clip) else image
            if isinstance(path, Path):
                file = os.path.realpath(path)
                if file in files:
                    continue
                files.add(file)
            name = names.unique(wanted)
            if next(turns) != self.shard[0]:
                continue
            for source in self._sources(name, image):
                self.taken += 1
                part, parts = self.shard
                yield source._replace(number=(self.taken - 1) * parts + part)

    def count(self) -> int | None:
        """Counts the images, those twice that are named twice; None if that would take what can be taken once only."""
        total = 0
        for text in self.inputs:
            if text == '-':
                return None
            for _, image in self._named(text):
                if isinstance(image, Clip):
                    return None
                total += 1
        part, parts = self.shard
        return (total - part) // parts + 1

    def _sources(self, name: str, image: Image | Exception | Clip) -> Iterator[Source]:
        if not isinstance(image, Clip):
            yield Source(name, image)
            return
        for frame in image.frames(self.every):
            yield Source(f'{name}/{Path(name).name}_{frame.number:06d}', frame.image, name, frame.time)

    def _named(self, text: str) -> Iterator[Named]:
        """Yields the images and clips of one input; raises FileNotFoundError if there is none."""
        path = Path(text)
        if text == '-':
            yield from self._lines(sys.stdin, Path())
        elif is_url(text):
            yield _name_of_url(text), text
        elif _is_list(text):
            with open(text, encoding='utf-8', errors='surrogateescape') as lines:
                yield from self._lines(lines, path.parent)
        elif match := CAMERA.fullmatch(text):
            yield f'camera{match[1]}', _clip(text, partial(read_camera, text))
        elif PATTERN.search(path.name) and not path.exists():
            yield _clip_of_files(path.parent, text, numbered_files(path))
        elif self.folders_are_clips and path.is_dir():
            images = (file for file in path.iterdir() if file.suffix.lower() in self.suffixes)
            yield _clip_of_files(path, text, in_natural_order(images))
        else:
            yield from self._files(text)

    def _files(self, text: str) -> Iterator[Named]:
        none = True
        for path, name in named_files(text, self.suffixes, self.left_out):
            none = False
            if isinstance(path, Path) and path.suffix.lower() in VIDEO_SUFFIXES:
                yield name, _clip(path, partial(read_video, path, max_pixels=self.max_pixels), path)
            else:
                yield name, path
        if none:
            raise FileNotFoundError(f'{text}: no images found')

    def _lines(self, lines: Iterable[str], folder: Path) -> Iterator[Named]:
        for line in lines:
            text = line.strip()
            if not text:
                continue
            try:
                if text == '-' or _is_list(folder / text):
                    raise ValueError(f'{text}: a list must name no other list')
                is_path = not is_url(text) and not CAMERA.fullmatch(text)
                yield from self._named(os.fspath(folder / text) if is_path else text)
            except (OSError, ValueError) as error:
                yield Path(text).stem, error


def results_of(
    model: Predictor[Any], sources: Iterable[Source], batch_size: int = 1, workers: int = 0
) -> Iterator[tuple[Source, Any]]:
    """Yields each source with what `Predictor.stream` gives for its image."""
    waiting: deque[Source] = deque()

    def images() -> Iterator[Image | Exception]:
        for source in sources:
            waiting.append(source)
            yield source.image

    for found in model.stream(images(), batch_size, workers):
        yield waiting.popleft(), found


def part_of(shard: str) -> tuple[int, int]:
    """Reads 'K/N'; raises ValueError for anything else."""
    match = re.fullmatch(r'(\d+)/(\d+)', shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f'shard must be K/N with 1 <= K <= N, got {shard}')
    return int(match[1]), int(match[2])


def _clip_of_files(folder: Path, text: str, files: list[tuple[int, Path]]) -> Named:
    if not files:
        raise FileNotFoundError(f'{text}: no images found')
    return folder.resolve().name or 'frames', _clip(text, partial(read_files, files))


def _clip(name: str | os.PathLike, frames: Callable[[int], Iterator[Frame]], path: Path | None = None) -> Clip:
    check_installed(name)
    return Clip(frames, path)


def _is_list(text: str | os.PathLike) -> bool:
    return os.fspath(text).lower().endswith(LIST_SUFFIX) and Path(text).is_file()


def _name_of_url(url: str) -> str:
    """The file name in ``url``, without its suffix and what no file system takes, or else its host."""
    parts = urlsplit(url)
    name = Path(re.sub(r'[\\/\0]', '_', unquote(parts.path.rstrip('/').rpartition('/')[2]))).stem
    return name or (parts.hostname or 'url')
