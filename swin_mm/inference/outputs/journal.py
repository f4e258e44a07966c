"""Remembers which images of a run are written, so that a run that was stopped goes on."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import PreflightError, one_line
from .output import GrowingFile

NAME = 'journal'


class Journal:
    """``journal.jsonl`` in ``folder``: the command in the first line, then a line an image that is written.

    ``part`` is as of a `Job`: ``journal_1_of_2.jsonl``.
    A line has the image's number and source and the lengths of the growing files behind it. It is added when all of
    that is the operating system's; so of a killed process, on a machine that goes on, no line is ahead of the outputs.
    ``lengths``: those of the last line. ``file``: the open journal.

    ``command`` says what the results hang on. ``go_on`` takes up the journal that is there, if there is one; raises
    PreflightError if it is of another command. Nothing is written before `open`.
    """

    file: GrowingFile

    def __init__(self, folder: Path, command: Mapping[str, Any], go_on: bool = False, part: str = ''):
        self.path = folder / f'{NAME}{part}.jsonl'
        self.lengths: dict[str, int] = {}
        self._done: dict[int, int] = {}  # number -> a hash of the source
        self._command = dict(command)
        self._whole = self._read() if go_on and self.path.exists() else 0

    def __len__(self) -> int:
        return len(self._done)

    def is_done(self, number: int, source: str) -> bool:
        """Whether an image is written; raises PreflightError if another one was at its place."""
        known = self._done.get(number)
        if known is not None and known != _hash(source):
            raise PreflightError(
                f'--resume needs the inputs of the run that stopped, in their order, and image {number} of '
                f'{self.path} is another one than {source}: {_ADVICE}'
            )
        return known is not None

    def open(self) -> None:
        """Begins the file anew, or cuts it behind its last whole line."""
        command = json.dumps({'command': self._command}) + '\n'
        self.file = GrowingFile(self.path, command, length=self._whole or None)

    def add(self, number: int, source: str, lengths: Mapping[str, int]) -> None:
        """Adds an image whose outputs are written."""
        self.file.add([json.dumps(dict(number=number, source=source, lengths=lengths)) + '\n'])

    def _read(self) -> int:
        """Takes in the whole lines, and gives their length in bytes."""
        length = 0
        with open(self.path, 'rb') as file:
            for i, line in enumerate(file):
                if not line.endswith(b'\n'):  # the process was killed here
                    break
                try:
                    self._take(json.loads(line), i == 0)
                except (ValueError, KeyError, TypeError) as error:
                    raise PreflightError(
                        f'{self.path}: line {i + 1} is not of a journal ({one_line(error)}): {_ADVICE}'
                    ) from error
                length += len(line)
        self._check_lengths()
        return length

    def _take(self, content: dict[str, Any], is_first: bool) -> None:
        if not is_first:
            self._done[content['number']] = _hash(content['source'])
            self.lengths = content['lengths']
            return
        then, now = content['command'], json.loads(json.dumps(self._command))
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key):
                raise PreflightError(
                    f'--resume needs the command of the run that stopped: {key} was {then.get(key)} in {self.path}, '
                    f'and is {now.get(key)}: {_ADVICE}'
                )

    def _check_lengths(self) -> None:
        for name, length in self.lengths.items():
            path = self.path.parent / name
            if not path.is_file() or path.stat().st_size < length:
                raise PreflightError(f'--resume needs {path} with {length} bytes at least, as it was: {_ADVICE}')


_ADVICE = 'say it as it was, or leave --resume out to begin anew'


def _hash(source: str) -> int:
    return zlib.crc32(source.encode(errors='surrogateescape'))
