"""Writes weights into files for other programs: .pth or .safetensors, in any dialect."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .whole_file import whole_file

SUFFIXES = ('.pth', '.safetensors')
OPENMMLAB = ('official', 'mmdet', 'mmseg', 'mmpretrain')  # programs that read `meta`
NAMES = ('dataset_meta', 'CLASSES', 'PALETTE')


def write(path: Path, state: Mapping[str, Tensor], names: Mapping[str, Any] | None = None) -> None:
    """Writes ``state`` to ``path``, whole or not at all; ``names`` go into ``meta`` of a .pth.

    The end of the name says the format. Raises ValueError for another than `SUFFIXES`, OSError if it cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f'the file must end in .pth or .safetensors, got {path}')
    state = _apart({key: _without_neighbours(value) for key, value in state.items()})
    with whole_file(path) as partial:
        if path.suffix == '.safetensors':
            from safetensors.torch import save_file

            save_file(state, partial, metadata={'format': 'pt'})
        else:
            with open(partial, 'wb') as file:  # given a path, PyTorch writes the name of the file into it
                torch.save({'meta': dict(names), 'state_dict': state} if names else state, file)


def class_names(checkpoint: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """Gives the entries of ``meta`` about classes, if programs of ``dialect`` read them; else nothing."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or dialect not in OPENMMLAB:
        return {}
    return {key: meta[key] for key in NAMES if key in meta}


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with copies of tensors that stand under several names, such as heads that share layers.

    safetensors refuses these.
    """
    first: dict[int, str] = {}
    names = {key: first.setdefault(value.data_ptr(), key) for key, value in state.items()}
    return {key: value if names[key] == key else value.clone() for key, value in state.items()}


def _without_neighbours(value: Tensor) -> Tensor:
    """``value`` without the rest of a larger storage, which would be written as well."""
    value = value.detach().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
