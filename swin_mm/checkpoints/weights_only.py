"""``torch.load(weights_only=True)`` that keeps its word before PyTorch 2.6 as well.

There it runs a TorchScript program and unpacks a .tar file whatever it is asked for (CVE-2025-32434).
"""

import os
import tarfile
from typing import Any, BinaryIO

import torch


def load_weights_only(source: str | os.PathLike | BinaryIO, **arguments: Any) -> Any:
    """Loads weights from a path or a file as ``torch.load`` does, with its ``arguments``; runs nothing."""
    refuse_programs(source)
    return torch.load(source, weights_only=True, **arguments)


def refuse_programs(source: str | os.PathLike | BinaryIO) -> None:
    """Raises RuntimeError for a TorchScript program or a .tar file, as ``torch.load`` does from PyTorch 2.6 on.

    ``source`` is a path or a file that can be rewound.
    """
    if torch.__version__ >= '2.6':
        return
    if isinstance(source, str | os.PathLike):
        with open(source, 'rb') as file:
            refuse_programs(file)
        return
    start = source.tell()
    try:
        if _is_torchscript(source):
            raise RuntimeError('Cannot use ``weights_only=True`` with TorchScript archives')
        source.seek(start)
        if _is_tar(source):
            raise RuntimeError('Cannot use ``weights_only=True`` with files saved in the legacy .tar format')
    finally:
        source.seek(start)


def _is_torchscript(file: BinaryIO) -> bool:
    if file.read(4) != b'PK\x03\x04':
        return False
    file.seek(-4, os.SEEK_CUR)
    # Uses PyTorch's own reader, because another one may find other names in the same file.
    return 'constants.pkl' in torch._C.PyTorchFileReader(file).get_all_records()


def _is_tar(file: BinaryIO) -> bool:
    # Looks at every file, because PyTorch tries this format before its own.
    try:
        tarfile.open(fileobj=file, mode='r:').close()
    except tarfile.TarError:
        return False
    return True
