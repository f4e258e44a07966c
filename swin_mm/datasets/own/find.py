"""Finds annotation files and the images that belong to them, below a folder."""

import os
import re
from pathlib import Path

from ...errors import PreflightError, shortlist
from .coco import Part, read_coco

ROLES = {'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val'}
ROLES |= {'test': 'test', 'testing': 'test'}
ANNOTATIONS = {'annotation', 'annotations', 'labels'}  # folders of files whose images are elsewhere


def find_coco(data: Path) -> dict[str, Part]:
    """The parts of the COCO data at ``data``, a file or a folder: 'train', and 'val' if there is one; {} if none is.

    A file or its folder tells its part by its name. A single file is all there is, whatever its name.
    Raises PreflightError where names leave a choice, and for images that are not there.
    """
    files = [data] if data.is_file() else sorted(visible(data, '.json'))
    contents = {file: content for file in files if (content := read_coco(file)) is not None}
    chosen = _by_role(list(contents), data) if contents else {}
    return {name: Part(file, _find_images(file, contents[file], data), contents[file]) for name, file in chosen.items()}


def _by_role(files: list[Path], data: Path) -> dict[str, Path]:
    if len(files) == 1:
        return {'train': files[0]}
    chosen: dict[str, Path] = {}
    for file in files:
        name = role(file.relative_to(data))
        if name in chosen:
            raise PreflightError(
                f'{data} has several annotation files to {name} on: {chosen[name]} and {file}; '
                'name one with --data FILE'
            )
        chosen |= {name: file} if name else {}
    if 'train' not in chosen:
        raise PreflightError(
            f'{data} has {len(files)} annotation files and no name says which is to train on: '
            f'{shortlist(str(file.relative_to(data)) for file in files)}; let the names of files or folders hold train '
            'and val, or name one with --data FILE, which is then split'
        )
    return {name: chosen[name] for name in ('train', 'val') if name in chosen}


def role(path: Path) -> str | None:
    """'train', 'val' or 'test' if a word of the file's name says so, or else of its folders' names, nearest first."""
    for part in (path.stem, *reversed(path.parent.parts)):
        for word in re.split('[^a-z]+', part.lower()):
            if word in ROLES:
                return ROLES[word]
    return None


def words_of(folder: Path, root: Path) -> set[str]:
    """The words of a folder's path, seen from ``root``, in small letters."""
    return set(re.split('[^a-z]+', folder.relative_to(root).as_posix().lower()))


def _find_images(file: Path, content: dict, data: Path) -> Path:
    """The folder that the file names of ``content`` start at: near its file first, no folder of another part."""
    names = [image['file_name'] for image in content['images']]
    root = data if data.is_dir() else data.parent
    if root != data and words_of(root, root.parent) & ANNOTATIONS:
        root = root.parent  # as COCO has it: annotations/train.json and train/ beside that folder
    fewest, nearest = names, root
    for folder in [file.parent, *_folders(root, role(file.relative_to(root)))]:
        if not any((folder / name).is_file() for name in (names[0], names[len(names) // 2], names[-1])):
            continue
        missing = [name for name in names if not (folder / name).is_file()]
        if not missing:
            return folder
        if len(missing) < len(fewest):
            fewest, nearest = missing, folder
    raise PreflightError(
        f'{len(fewest)} of {len(names)} images of {file} are not in {nearest}: {shortlist(fewest)}; put them there, or '
        'take them out of the file'
    )


def _folders(root: Path, wanted: str | None) -> list[Path]:
    """Every folder from ``root`` on: those of the part ``wanted`` first, those of another part last."""
    folders = [Path(folder) for folder, _, _ in os.walk(root) if '/.' not in Path(folder).relative_to(root).as_posix()]

    def order(folder: Path) -> tuple[int, str]:
        found = role(folder.relative_to(root) / '_')
        return (0 if found == wanted else 1 if found is None else 2, str(folder))

    return sorted(folders, key=order)


def visible(folder: Path, suffix: str) -> list[Path]:
    """The files with ``suffix`` at any depth, without hidden files and folders."""
    found = (path for path in folder.rglob(f'*{suffix}') if path.is_file())
    return [path for path in found if not any(part.startswith('.') for part in path.relative_to(folder).parts)]
