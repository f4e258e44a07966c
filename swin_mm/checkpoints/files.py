"""Reads checkpoints from files and URLs as plain data: no code in them runs, whatever their format."""

import os
import re
from typing import Any

from ..errors import CheckpointError, one_line
from .formats import format_of
from .sources import is_remote, local_file


def read(source: str | os.PathLike, map_location: Any = 'cpu', mmap: bool = False) -> dict[str, Any]:
    """Reads a checkpoint in any of `FORMATS`; arrays become tensors.

    ``source`` is a path or an address (see `sources`). ``map_location`` is `torch.load`'s; other formats come on the
    CPU. With ``mmap``, tensors are read when they are used, if the format allows it, so the file must not be written to
    meanwhile.

    Raises OSError for a file that cannot be had, CheckpointError with its name and the reason for one that cannot be
    read: damaged, of another format, or with Python objects other than a few harmless ones.
    """
    name = os.fspath(source)
    path = local_file(name)
    name = os.fspath(path) if is_remote(name) else name  # an address may hold a password
    try:
        loaded = format_of(path).read(path, map_location, mmap)
    except OSError:
        raise
    except Exception as error:  # torch raises almost anything on a file that is no checkpoint
        raise CheckpointError(f'{name} {_reason(error)}') from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f'{name} must hold a dictionary of tensors, got {type(loaded).__name__}')
    return loaded


def _reason(error: Exception) -> str:
    text = one_line(error)
    if found := re.search(r'GLOBAL (\S+)', text):
        return (
            f'holds Python objects ({found[1]}), which could run code, so it is not loaded: if you trust its origin, '
            "keep only its weights, torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"
        )
    if text.startswith('is not a checkpoint'):
        return text
    if 'legacy .tar' in text:
        text = 'it has the format of PyTorch 0.1, which cannot be read safely: save it again with a later one'
    elif 'TorchScript' in text:
        text = 'it is a TorchScript program: save the state_dict() of its module instead'
    elif 'central directory' in text:
        text = 'its end is missing, it was copied or downloaded in part'
    elif found := re.search(r'WeightsUnpickler error: (.*?)(?: Check the documentation|$)', text):
        text = found[1]
    return f'is not a checkpoint, or a damaged one: {type(error).__name__}: {text[:200]}'
