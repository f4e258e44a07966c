"""Finds the checkpoint from which a run goes on: the newest one that is whole, the same for every process."""

import os
import re
import zipfile
import zlib
from pathlib import Path

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process

from ..checkpoints import files
from ..checkpoints.formats import format_of
from ..errors import CheckpointError

NOTE = 'last_checkpoint'  # the file in which mmengine keeps the name of the newest checkpoint
# A run that a signal ends saves `interrupted.pth`: see `signals`.
RESUMABLE = re.compile(r'(epoch|iter)_(\d+)\.pth|interrupted\.pth')
NEEDED = ('meta', 'message_hub', 'state_dict')  # what `Runner.resume` reads in any case


def checkpoint_folders(work_dir: str | os.PathLike, out_dir: str | os.PathLike | None) -> list[Path]:
    """Gives the folders of a run's checkpoints: its ``work_dir`` and, if set, a folder of the same name in ``out_dir``.

    ``out_dir`` is that of mmengine's `CheckpointHook`.
    """
    work_dir = Path(work_dir)
    elsewhere = out_dir is not None and '://' not in str(out_dir) and Path(out_dir) != work_dir
    return [work_dir, Path(str(out_dir), work_dir.name)] if elsewhere else [work_dir]


def agreed_checkpoint(*folders: str | os.PathLike) -> tuple[Path | None, list[str]]:
    """Gives what `newest_checkpoint` finds on the main process, to all processes; all of them must call it.

    Two processes that looked for themselves might see different files of a network's storage. Raises CheckpointError,
    on all of them, if one does not see the file that was chosen.
    """
    found: list = [newest_checkpoint(*folders) if is_main_process() else None]
    broadcast_object_list(found)
    path, passed_over = found[0]
    unseen = torch.tensor(float(path is not None and not path.is_file()))
    all_reduce(unseen, 'max')
    if unseen:
        raise CheckpointError(
            f'rank 0 goes on from {path}, and another process does not see that file: let all of them share the folder'
        )
    return path, passed_over


def newest_checkpoint(*folders: str | os.PathLike) -> tuple[Path | None, list[str]]:
    """Gives the newest whole checkpoint in ``folders``, None if none is whole, and a sentence per file passed over.

    ``folders``: those of `checkpoint_folders`. The file ``last_checkpoint`` in the first of them names the newest. A
    checkpoint that was written after this note is tried before the noted one: the run was killed before it could note
    it. After the noted one come the other ``epoch_N.pth``, ``iter_N.pth`` and ``interrupted.pth``, the last written
    first.
    """
    passed_over: list[str] = []
    for path in _candidates([Path(folder) for folder in folders]):
        fault = _fault(path)
        if fault is None:
            return path, passed_over
        passed_over.append(f'{path} {fault}')
    return None, passed_over


def noted_checkpoint(*folders: str | os.PathLike) -> Path | None:
    """Gives the file in ``folders`` that ``last_checkpoint`` in the first one names; None without a note.

    If the file is in none of them, gives its place in the first one.
    """
    try:
        name = Path(Path(folders[0], NOTE).read_text().strip()).name
    except (OSError, UnicodeDecodeError):
        return None
    # Only the name counts: the path was that of a run which may have been moved or copied since.
    paths = [Path(folder, name) for folder in folders]
    return next((path for path in paths if path.exists()), paths[0]) if name else None


def _candidates(folders: list[Path]) -> list[Path]:
    noted = noted_checkpoint(*folders)
    others = [path for folder in folders for path in _resumable(folder) if path != noted]
    others.sort(key=lambda path: (path.stat().st_mtime_ns, _number(path)), reverse=True)
    if noted is None:
        return others
    newer = [path for path in others if _is_newer_than_note(path, noted, folders[0] / NOTE)]
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
