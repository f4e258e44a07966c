"""The formats of checkpoint files as a table: how to tell each by its first bytes, and how to read it.

A file's name does not count. To add a format, add a row to `FORMATS`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .pickles import plain_data, read_pickle, stand_ins_in_torch
from .weights_only import load_weights_only

HEAD = 512  # bytes that tell every format
# torch.save before 1.6: a pickled magic number, protocol 2.
LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
WRONG = {
    b'<': 'a web page (HTML): the address may need a login, or be that of a page about the file',
    b'version https://git-lfs': 'what Git LFS leaves in the place of the file: run `git lfs pull`',
    b'\x1f\x8b': 'compressed by gzip: unpack it first',
    b'\x89HDF': 'written by Keras or TensorFlow (HDF5), not by PyTorch',
}


class Format(NamedTuple):
    """``is_it``: whether a file that begins with these bytes is of this format.

    ``read(path, map_location, mmap)``: its content as plain data, no code of its own run.
    """

    name: str
    is_it: Callable[[bytes], bool]
    read: Callable[[Path, Any, bool], Any]


def format_of(path: str | os.PathLike) -> Format:
    """The format of a file; raises ValueError with the reason if it has none of `FORMATS`."""
    with open(path, 'rb') as file:
        head = file.read(HEAD)
    found = next((known for known in FORMATS if known.is_it(head)), None)
    if found is not None:
        return found
    if not head:
        raise ValueError('is not a checkpoint, or a damaged one: it is empty (0 bytes)')
    begins = f'begins with {head[:8]!r}, as no format of checkpoints does'
    wrong = next((f'is {text}' for start, text in WRONG.items() if head.lstrip().startswith(start)), begins)
    raise ValueError(f'is not a checkpoint, or a damaged one: it {wrong}')


def _read_torch(path: Path, map_location: Any, mmap: bool) -> Any:
    # Given a path, PyTorch goes by the end of the name; given an open file, it cannot map it.
    mapped = mmap and path.suffix != '.safetensors'
    with open(path, 'rb') as file, stand_ins_in_torch():
        source = path if mapped else file
        return plain_data(load_weights_only(source, map_location=map_location, mmap=mapped))


def _read_old_torch(path: Path, map_location: Any, _: bool) -> Any:
    return _read_torch(path, map_location, mmap=False)


def _read_pickle(path: Path, *_: Any) -> Any:
    with open(path, 'rb') as file:
        return read_pickle(file)


def _read_safetensors(path: Path, *_: Any) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


FORMATS = (
    Format('zip', lambda head: head.startswith(b'PK\x03\x04'), _read_torch),
    Format('legacy', lambda head: head.startswith(LEGACY), _read_old_torch),
    Format('pickle', lambda head: head.startswith(b'\x80'), _read_pickle),  # as of detectron2
    # The length of the header in 8 bytes, then JSON.
    Format('safetensors', lambda head: head[8:9] == b'{' and head[6:8] == b'\0\0', _read_safetensors),
    Format('tar', lambda head: head[257:262] == b'ustar', _read_old_torch),
)
