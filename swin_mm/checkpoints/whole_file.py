"""Files that are there whole or not at all, whatever ends the process that writes them."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

PARTIAL = '.partial'


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to, beside ``path``, whose place that file takes when the block ends without an error.

    The folder is made if need be. After an error nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{secrets.token_hex(4)}{PARTIAL}')
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Gives the finished file ``partial`` the name ``path``: a reader finds the old content or the new, even after a
    crash of the machine.
    """
    # A rename may reach the disk before the content does: after a power cut the file would be whole in name only.
    with open(partial, 'rb+') as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    # Not every file system can do this, and the file is whole already: without it a crash may undo the rename.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
