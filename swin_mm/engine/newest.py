"""Finds the checkpoint from which a run goes on: the newest one that is whole."""

import os
import re
import zipfile
import zlib
from pathlib import Path

from ..checkpoints import files
from ..checkpoints.formats import format_of

NOTE = 'last_checkpoint'  # the file in which mmengine keeps the name of the newest checkpoint
# A run that a signal ends saves `interrupted.pth`: see `signals`.
RESUMABLE = re.compile(r'(epoch|iter)_(\d+)\.pth|interrupted\.pth')
NEEDED = ('meta', 'message_hub', 'state_dict')  # what `Runner.resume` reads in any case


def newest_checkpoint(work_dir: str | os.PathLike) -> tuple[Path | None, list[str]]:
    """Gives the newest whole checkpoint of ``work_dir``, None if none is whole, and a sentence per file passed over.

    The file ``last_checkpoint`` names the newest, by a name in ``work_dir`` or by a path; the path may date from before
    ``work_dir`` was moved. A checkpoint that was written after this note is tried before the noted one: the run was
    killed before it could note it. After the noted one come the other ``epoch_N.pth``, ``iter_N.pth`` and
    ``interrupted.pth``, the last written first.
    """
    passed_over: list[str] = []
    for path in _candidates(Path(work_dir)):
        fault = _fault(path)
        if fault is None:
            return path, passed_over
        passed_over.append(f'{path} {fault}')
    return None, passed_over


def noted_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """Gives the file that ``last_checkpoint`` in ``work_dir`` names, whether it exists or not; None without a note."""
    try:
        name = Path(work_dir, NOTE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not name:
        return None
    path = Path(work_dir, name)  # `name` itself, if it is absolute
    moved = Path(work_dir, path.name)
    return moved if moved.exists() and not path.exists() else path


def _candidates(work_dir: Path) -> list[Path]:
    noted = noted_checkpoint(work_dir)
    folders = {work_dir, noted.parent} if noted else {work_dir}
    others = [path for folder in folders for path in _resumable(folder) if path != noted]
    others.sort(key=lambda path: (path.stat().st_mtime_ns, _number(path)), reverse=True)
    if noted is None:
        return others
    newer = [path for path in others if _is_newer_than_note(path, noted, work_dir / NOTE)]
    return [*newer, noted, *(path for path in others if path not in newer)]


def _resumable(folder: Path) -> list[Path]:
    return [path for path in folder.glob('*.pth') if RESUMABLE.fullmatch(path.name) and path.is_file()]


def _number(path: Path) -> int:
    match = RESUMABLE.fullmatch(path.name)
    return int(match[2] or 0) if match else 0


def _is_newer_than_note(path: Path, noted: Path, note: Path) -> bool:
    """Whether ``path`` was written after ``note``, which names ``noted``.

    A copied folder may have lost the times of its files, so a lower number than in ``noted`` is enough to say no.
    """
    known, other = RESUMABLE.fullmatch(noted.name), RESUMABLE.fullmatch(path.name)
    if known and other and known[1] and known[1] == other[1] and int(other[2]) < int(known[2]):
        return False
    return path.stat().st_mtime_ns >= note.stat().st_mtime_ns


def _fault(path: Path) -> str | None:
    """Says why a run cannot go on with ``path``, as the rest of a sentence; None if it can."""
    try:
        if format_of(path).name == 'zip':
            # PyTorch writes checksums, but does not compare them when it loads.
            with zipfile.ZipFile(path) as file:
                broken = file.testzip()
            if broken:
                return f'is damaged: the checksum of {broken} is wrong'
        loaded = files.read(path, mmap=True)
    except FileNotFoundError:
        return 'is not there'
    except OSError as error:
        return f'cannot be read: {error}'
    except ValueError as error:
        return str(error).removeprefix(f'{path} ')
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        return f'is damaged, some of it is missing or changed: {error}'
    missing = [key for key in NEEDED if key not in loaded]
    return f'holds no state of a training: no {", ".join(missing)}' if missing else None
