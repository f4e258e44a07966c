"""Checkpoints from files and URLs as plain data: whatever the format, no code of theirs runs."""

import os
import re
from pathlib import Path
from typing import Any

import torch

from .downloads import fetch, is_url
from .formats import format_of
from .pickles import read_pickle, settled, stand_ins_in_torch


def read(source: str | os.PathLike, map_location: Any = 'cpu', mmap: bool = False) -> dict[str, Any]:
    """The content of a checkpoint: what ``torch.save`` wrote, safetensors, or a pickle of arrays as of detectron2.

    Arrays become tensors. ``source`` is a path or a URL, for which see ``downloads.fetch``. ``map_location`` is
    `torch.load`'s; other formats come on the CPU. With ``mmap`` tensors are read when they are used, if the format
    lets them: not for files that may be written to meanwhile.

    Raises OSError for a file that cannot be had, ValueError with its name and the reason for one that cannot be read:
    damaged, of another format, or with Python objects other than a few harmless ones.
    """
    name = os.fspath(source)
    path = fetch(name) if is_url(name) else Path(name).expanduser()
    name = os.fspath(path) if is_url(name) else name  # an address may hold a password
    try:
        loaded = _read(path, format_of(path), map_location, mmap)
    except OSError:
        raise
    except Exception as error:  # torch raises almost anything on a file that is no checkpoint
        raise ValueError(f'{name} {_reason(error)}') from error
    if not isinstance(loaded, dict):
        raise ValueError(f'{name} must hold a dictionary of tensors, got {type(loaded).__name__}')
    return loaded


def _read(path: Path, format_: str, map_location: Any, mmap: bool) -> Any:
    if format_ == 'safetensors':
        from safetensors.torch import load_file

        return load_file(path)
    if format_ == 'pickle':
        with open(path, 'rb') as file:
            return read_pickle(file)
    # Given a path, PyTorch goes by the end of the name; given an open file, it cannot map it.
    mapped = mmap and format_ == 'zip' and path.suffix != '.safetensors'
    with open(path, 'rb') as file, stand_ins_in_torch():
        source = path if mapped else file
        return settled(torch.load(source, map_location=map_location, weights_only=True, mmap=mapped))


def _reason(error: Exception) -> str:
    text = ' '.join(str(error).split())
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
