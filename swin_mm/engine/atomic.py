"""An mmengine storage backend that writes each file whole or not at all."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..checkpoints.whole_file import PARTIAL, whole_file
from ..errors import megabytes

NAME = 'swin_mm.atomic'


class AtomicBackend(LocalBackend):
    """Writes local files beside their place and renames them: ``backend_args=dict(backend='swin_mm.atomic')``.

    A reader finds the old content or the new, never a part, even after a crash of the machine. If writing fails,
    nothing is left behind, and the OSError says how many bytes were needed and how many are free.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Writes ``obj`` to ``filepath``, and makes its folder if need be."""
        path = Path(filepath)
        try:
            with whole_file(path) as partial:
                _check_room(path.parent, len(obj))
                with open(partial, 'xb') as file:
                    file.write(obj)
        except OSError as error:
            reason = f'{error.strerror}; it needs {megabytes(len(obj))}, {_free_text(path.parent)}'
            raise OSError(error.errno, reason, os.fspath(path)) from error

    def put_text(self, obj: str, filepath: str | os.PathLike, encoding: str = 'utf-8') -> None:
        """Writes ``obj`` to ``filepath``, and makes its folder if need be."""
        self.put(obj.encode(encoding), filepath)


register_backend(NAME, AtomicBackend, force=True)


def remove_partial_files(folder: str | os.PathLike) -> list[Path]:
    """Removes the unfinished files that killed processes left in ``folder``, and returns their paths."""
    found = sorted(Path(folder).glob(f'.*{PARTIAL}'))
    for path in found:
        with contextlib.suppress(OSError):
            path.unlink()
    return found


def free_bytes(folder: str | os.PathLike) -> int | None:
    """Gives the bytes that can be written in ``folder``; None if its file system does not say, as on some networks."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else None


def _check_room(folder: Path, size: int) -> None:
    free = free_bytes(folder)
    if free is not None and free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _free_text(folder: Path) -> str:
    with contextlib.suppress(OSError):
        free = free_bytes(folder)
        return 'free space unknown' if free is None else f'{megabytes(free)} are free'
    return 'its folder is not there'
