"""``torch.load(weights_only=True)`` that expands nothing, and keeps its word before PyTorch 2.6 as well.

There it runs a TorchScript program and unpacks a .tar file whatever it is asked for (CVE-2025-32434).
"""

import os
import tarfile
import zipfile
from typing import Any, BinaryIO

import torch


def load_weights_only(source: str | os.PathLike | BinaryIO, **arguments: Any) -> Any:
    """Loads weights from a path or a file as ``torch.load`` does, with its ``arguments``; runs nothing."""
    check_before_loading(source)
    return torch.load(source, weights_only=True, **arguments)


def check_before_loading(source: str | os.PathLike | BinaryIO) -> None:
    """Raises RuntimeError for a TorchScript program or a .tar file, as ``torch.load`` does from PyTorch 2.6 on.

    Raises it also for a zip file without an end, or with a compressed entry, which may take a thousand times its size
    in memory. ``source`` is a path or a file that can be rewound.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, 'rb') as file:
            check_before_loading(file)
        return
    start = source.tell()
    try:
        if source.read(4) == b'PK\x03\x04':
            _check_zip(source, start)
        source.seek(start)
        if torch.__version__ < '2.6' and _is_tar(source):
            raise RuntimeError('Cannot use ``weights_only=True`` with files saved in the legacy .tar format')
    finally:
        source.seek(start)


def _check_zip(file: BinaryIO, start: int) -> None:
    file.seek(start)
    # Uses PyTorch's own reader, because another one may find other names in the same file.
    if 'constants.pkl' in torch._C.PyTorchFileReader(file).get_all_records():
        raise RuntimeError('Cannot use ``weights_only=True`` with TorchScript archives')
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise RuntimeError(
                    f'its entry {entry.filename!r} is compressed, and torch.save stores: save it again with torch.save'
                )


def _is_tar(file: BinaryIO) -> bool:
    # Looks at every file, because PyTorch tries this format before its own.
    try:
        tarfile.open(fileobj=file, mode='r:').close()
    except tarfile.TarError:
        return False
    return True
