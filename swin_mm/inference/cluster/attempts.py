"""Finds the image that kills its workers, such as one that a decoder crashes on, so that it cannot stop a job.

While a worker is at a part, a note beside the results counts how often the part was begun. After three deaths the
part goes one image at a time, and the note names the image. A worker that dies then has found it.
"""

import json
from typing import Any

from pyarrow import fs

from .storage import Place

DEATHS = 3  # of workers at a part: one or two may be machines that were taken away


class Attempt:
    """The work of one worker at a part, whose ``note`` it keeps; an earlier worker's note is what it left."""

    def __init__(self, note: Place):
        self.note = note
        self.told: dict[str, Any] = dict(deaths=-1, at=None, killers=[])
        if note.kind() == fs.FileType.File:
            self.told = json.loads(note.read())
        self.told['deaths'] += 1
        if self.told['at'] is not None:
            self.told['killers'].append(self.told['at'])
        self.begin(None)

    @property
    def is_careful(self) -> bool:
        """Whether images go one at a time."""
        return self.told['deaths'] >= DEATHS

    def begin(self, path: str | None) -> None:
        """Notes the image that comes next."""
        self.told['at'] = path
        self.note.write(json.dumps(self.told).encode())

    def reason(self, path: str) -> str | None:
        """Says why an image is left out; None for one that killed no worker."""
        return f'{path}: a worker died while it predicted this image' if path in self.told['killers'] else None
