"""Files that are there whole or not at all, whatever ends the process that writes them."""

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

NAME = 'swin_mm.atomic'
PARTIAL = '.partial'


class AtomicBackend(LocalBackend):
    """Local files, written beside their place and renamed: ``backend_args=dict(backend='swin_mm.atomic')``.

    A reader finds the old content or the new one, never a part, even after a crash of the machine. Raises OSError with
    the bytes that were needed and those that are free, and leaves nothing behind, where writing fails.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Writes ``obj`` to ``filepath``, whose folder is made if need be."""
        path = Path(filepath)
        partial = path.with_name(f'.{path.name}.{secrets.token_hex(4)}{PARTIAL}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(partial, obj)
            os.replace(partial, path)
        except OSError as error:
            reason = f'{error.strerror}; it needs {megabytes(len(obj))}, {_free_text(path.parent)}'
            raise OSError(error.errno, reason, os.fspath(path)) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        _sync_folder(path.parent)

    def put_text(self, obj: str, filepath: str | os.PathLike, encoding: str = 'utf-8') -> None:
        """Writes ``obj`` to ``filepath``, whose folder is made if need be."""
        self.put(obj.encode(encoding), filepath)


register_backend(NAME, AtomicBackend, force=True)


def remove_partial_files(folder: str | os.PathLike) -> list[Path]:
    """What killed processes left of the files that they were writing in ``folder``; it is removed."""
    found = sorted(Path(folder).glob(f'.*{PARTIAL}'))
    for path in found:
        with contextlib.suppress(OSError):
            path.unlink()
    return found


def free_bytes(folder: str | os.PathLike) -> int | None:
    """Bytes that can be written in ``folder``; None where its file system does not say, as some network ones."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else None


def megabytes(size: int) -> str:
    """``size``, in bytes, for people."""
    return f'{size / 1e6:,.2f} MB'


def _write(path: Path, obj: bytes) -> None:
    free = free_bytes(path.parent)
    if free is not None and free < len(obj):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with open(path, 'xb') as file:
        file.write(obj)
        file.flush()
        # A rename may reach the disk before the content does: after a power cut the file would be whole in name only.
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Not every file system can, and the file is whole already: without it a crash of the machine may undo the rename.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _free_text(folder: Path) -> str:
    with contextlib.suppress(OSError):
        free = free_bytes(folder)
        return 'free space unknown' if free is None else f'{megabytes(free)} are free'
    return 'its folder is not there'
