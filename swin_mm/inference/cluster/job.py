"""The work of a job as files in its folder: which images there are, in parts, and which parts are done."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from pyarrow import fs

from ..overlap import map_ahead
from .storage import Place, place

THREADS = 16  # that write lists of images: an object store takes tens of milliseconds for each


class Job(NamedTuple):
    """A job in the folder ``out``, a path or an address; ``format`` of its results is 'parquet' or 'jsonl'."""

    out: str
    format: str

    def images(self, part: int) -> Place:
        """The file that names the images of a part."""
        return place(self.out) / 'images' / f'{part:08d}.json'

    def results(self, part: int) -> Place:
        """The file with the results of a part, which is there when they are whole."""
        return place(self.out) / 'parts' / f'{part:08d}.{self.format}'

    def note(self, part: int) -> Place:
        """The file about the workers of a part, which goes when its results are there."""
        return place(self.out) / 'attempts' / f'{part:08d}.json'

    def begin(self, images: Iterable[Place], images_per_part: int, settings: dict[str, Any]) -> int:
        """Writes down the parts of ``images``, unless that was done before; gives the number of parts.

        The file ``job.json`` comes last and makes the lists valid. Raises ValueError if the job was begun with other
        ``settings``, FileNotFoundError if there are no images.
        """
        head = place(self.out) / 'job.json'
        settings = dict(settings, format=self.format, images_per_part=images_per_part)
        if head.kind() == fs.FileType.File:
            begun = json.loads(head.read())
            for name, value in settings.items():
                if begun.get(name) != value:
                    raise ValueError(
                        f'{self.out} was begun with {name}={begun.get(name)}, got {value}: go on as it was begun, '
                        'or name another folder'
                    )
            return begun['parts']
        parts = sum(map_ahead(self._write_list, enumerate(_grouped(images, images_per_part)), THREADS))
        if parts == 0:
            raise FileNotFoundError(f'{settings["source"]}: no images found')
        head.write(json.dumps(dict(settings, parts=parts)).encode())
        return parts

    def left(self, parts: int) -> list[int]:
        """The numbers of those of ``parts`` that have no results yet."""
        files = {info.base_name for info in (place(self.out) / 'parts').children()}
        return [part for part in range(parts) if self.results(part).path.rpartition('/')[2] not in files]

    def _write_list(self, numbered: tuple[int, list[str]]) -> int:
        part, paths = numbered
        self.images(part).write(json.dumps(paths).encode())
        return 1


def _grouped(images: Iterable[Place], number: int) -> Iterator[list[str]]:
    names = map(str, images)
    while group := list(islice(names, number)):
        yield group
