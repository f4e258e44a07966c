"""Files on any filesystem that pyarrow or fsspec knows: local folders, ``s3://``, ``gs://``, ``hdfs://`` and others."""

import functools
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow
from pyarrow import fs

from ...errors import one_line

MAX_BYTES = 1 << 30  # of an image file: a worker holds the files of a part in memory
WHOLE_AT_ONCE = ('s3', 'gcs', 'abfs')  # an object is seen when its upload is complete, so none is ever half there


class Place(NamedTuple):
    """A file or folder: ``path`` as its ``filesystem`` names it, ``base`` the beginning of it that ``root`` stands for.

    ``root`` is '' for a local path and otherwise as in 's3://bucket'.
    """

    filesystem: fs.FileSystem
    path: str
    root: str
    base: str

    def __str__(self) -> str:
        return self.root + self.path.removeprefix(self.base)

    def __truediv__(self, name: str) -> 'Place':
        return self._replace(path=f'{self.path.rstrip("/")}/{name}')

    def kind(self) -> fs.FileType:
        """Says whether it is a file, a folder or not there; raises OSError if its storage cannot be reached."""
        return self.filesystem.get_file_info(self.path).type

    def children(self) -> list[fs.FileInfo]:
        """The files and folders in a folder, by name; none if it is not there."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(self.filesystem.get_file_info(selector), key=lambda info: info.path)

    def read(self) -> bytes:
        """Gives what a file holds; raises OSError or ValueError with its name and the reason."""
        try:
            with self.filesystem.open_input_file(self.path) as file:
                if file.size() <= MAX_BYTES:
                    return file.read()
                raise ValueError(f'{self}: must have at most {MAX_BYTES} bytes, got {file.size()}')
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{self}: no such file') from error
        except OSError as error:
            raise type(error)(f'{self}: {one_line(error)}') from error

    def write(self, data: bytes) -> None:
        """Puts a file in place, whole or not at all; one of that name goes."""
        if self.filesystem.type_name in WHOLE_AT_ONCE:
            with self.filesystem.open_output_stream(self.path) as file:
                file.write(data)
            return
        folder, _, name = self.path.rpartition('/')
        beside = f'{folder}/.{name}.{uuid.uuid4().hex}'  # two workers may write the same file
        self.filesystem.create_dir(folder)
        with self.filesystem.open_output_stream(beside) as file:
            file.write(data)
        self.filesystem.move(beside, self.path)

    def delete(self) -> None:
        """Deletes a file, if it is there."""
        if self.kind() == fs.FileType.File:
            self.filesystem.delete_file(self.path)


def place(text: str) -> Place:
    """Gives the place of a local path or an address such as 's3://bucket/folder'.

    Raises ValueError for an address that neither pyarrow nor fsspec knows, OSError if its storage cannot be reached.
    """
    scheme, mark, rest = text.partition('://')
    if not mark or scheme == 'file':
        return Place(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(rest if mark else text)), '', '')
    bucket, _, path = rest.partition('/')
    filesystem, base = _filesystem(f'{scheme}://{bucket}')
    return Place(filesystem, f'{base}/{path}'.rstrip('/'), f'{scheme}://{bucket}', base)


def images_in(source: str, suffixes: Iterable[str]) -> Iterator[Place]:
    """Yields the image files of ``source``: a folder with all below it, by name, an image, or a list of images.

    A list is a text file with a path or an address a line. A folder is listed when its turn comes, so that no more than
    one at a time is in memory, and a list line by line. Raises FileNotFoundError if there is no such source.
    """
    start, endings = place(source), tuple(suffixes)
    kind = start.kind()
    if kind == fs.FileType.Directory:
        yield from _below(start, endings)
    elif kind == fs.FileType.NotFound:
        raise FileNotFoundError(f'{start}: no such file or folder')
    elif start.path.lower().endswith(endings):
        yield start
    else:
        yield from map(place, _lines(start))


def _below(folder: Place, suffixes: tuple[str, ...]) -> Iterator[Place]:
    for info in folder.children():
        if info.type == fs.FileType.Directory:
            yield from _below(folder._replace(path=info.path), suffixes)
        elif info.path.lower().endswith(suffixes):
            yield folder._replace(path=info.path)


def _lines(file: Place) -> Iterator[str]:
    with file.filesystem.open_input_stream(file.path) as stream:
        rest = b''
        while chunk := stream.read(1 << 20):
            *lines, rest = (rest + chunk).split(b'\n')
            yield from (line for line in map(_text, lines) if line)
        if line := _text(rest):
            yield line


def _text(line: bytes) -> str:
    return line.strip(b'\r\n').decode()


@functools.cache
def _filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a root such as 's3://bucket', and what its paths begin with."""
    try:
        filesystem, base = fs.FileSystem.from_uri(root)
        return filesystem, base.rstrip('/')
    except pyarrow.ArrowInvalid:
        pass
    import fsspec.core

    try:
        filesystem, base = fsspec.core.url_to_fs(root)
        return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), base
    except (ValueError, ImportError) as error:
        raise ValueError(f'{root}: no filesystem that pyarrow or fsspec knows here: {one_line(error)}') from error
