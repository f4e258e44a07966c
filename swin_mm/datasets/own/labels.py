"""Finds images and their label maps in folders, the classes of these, and splits them."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import PreflightError, one_line, shortlist
from .coco import size_of
from .find import role, words_of
from .split import held_out

WORDS = {'mask', 'masks', 'label', 'labels', 'annotation', 'annotations', 'gt', 'semantic', 'segmentation'}
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
IGNORED = 255
LARGEST_CLASS = 254


@dataclass
class LabelPart:
    """Images and their label maps: image ``images/NAME + image_suffix`` has ``labels/NAME + label_suffix``."""

    images: Path
    labels: Path
    image_suffix: str
    label_suffix: str
    names: list[str]
    _values: dict[Path, set[int]] = field(default_factory=dict, repr=False)  # the parts of a split share it

    def label_files(self) -> list[Path]:
        """The label maps, in the order of the names."""
        return [self.labels / f'{name}{self.label_suffix}' for name in self.names]

    def values(self) -> list[set[int]]:
        """The values in each label map; a file is decoded once."""
        return [self._values.get(file) or self._values.setdefault(file, _read(file)) for file in self.label_files()]

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of each image in pixels."""
        return [size_of(self.images / f'{name}{self.image_suffix}') for name in self.names]

    def save(self, path: Path) -> None:
        """Writes the names, a line each, as mmseg reads them; a reader never meets half a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f'.{os.getpid()}')
        scratch.write_text(''.join(f'{name}\n' for name in self.names))
        scratch.replace(path)


def find_labels(data: Path) -> dict[str, LabelPart]:
    """The parts 'train' and 'val' of the images and label maps below the folder ``data``; {} if there are none.

    A folder with PNG files is one of label maps if a word of its path says so, such as masks or labels. Its images are
    in the folder that has one for each of its files. One pair of folders is split. Raises PreflightError if images are
    missing, or if names leave a choice.
    """
    files = {Path(folder): sorted(names) for folder, _, names in os.walk(data)}
    kept = {folder: names for folder, names in files.items() if '/.' not in f'/{folder.relative_to(data).as_posix()}'}
    labels = {folder: [name for name in names if name.lower().endswith('.png')] for folder, names in kept.items()}
    labels = {folder: names for folder, names in labels.items() if names and words_of(folder, data) & WORDS}
    images = {folder: [name for name in names if name.lower().endswith(IMAGES)] for folder, names in kept.items()}
    images = {folder: names for folder, names in images.items() if names and not words_of(folder, data) & WORDS}
    parts: dict[str, LabelPart] = {}
    for folder, names in labels.items():
        name = role(folder.relative_to(data) / '_') or 'train'
        if name in parts:
            raise PreflightError(
                f'{data} has several folders of labels to {name} on: {parts[name].labels} and {folder}'
            )
        parts[name] = _pair(folder, names, images, role(folder.relative_to(data) / '_'), data)
    parts.pop('test', None)
    if parts and 'train' not in parts:
        raise PreflightError(f'{data} has no folder of labels to train on, got {parts["val"].labels} to validate')
    return parts if 'val' in parts or not parts else _split(parts['train'])


def _pair(folder: Path, names: list[str], images: dict[Path, list[str]], part: str | None, data: Path) -> LabelPart:
    """The label maps of ``folder`` with the images of the folder that has one for each, of the same part if it can."""
    candidates = sorted(images, key=lambda other: (role(other.relative_to(data) / '_') != part, str(other)))
    for other in candidates:
        stems = {Path(name).stem: Path(name).suffix for name in images[other]}
        first = max((stem for stem in stems if names[0].startswith(stem)), key=len, default=None)
        if first is None:
            continue
        rest = names[0].removeprefix(first)  # '.png', or '_mask.png'
        paired = [name.removesuffix(rest) for name in names]
        suffixes = {stems.get(name) for name in paired}
        if all(name.endswith(rest) for name in names) and None not in suffixes:
            if len(suffixes) > 1:
                raise PreflightError(
                    f'images of one folder must have one suffix, got {shortlist(sorted(map(str, suffixes)))} in {other}'
                )
            return LabelPart(other, folder, str(suffixes.pop()), rest, paired)
    raise PreflightError(
        f'{folder} has {len(names)} label maps, and no folder of {data} has an image for each, of the same name: '
        f'{shortlist(names)}'
    )


def _split(part: LabelPart) -> dict[str, LabelPart]:
    classes = [values - {IGNORED} for values in part.values()]
    held = held_out(dict(zip(part.names, classes, strict=True)), str(part.labels))
    chosen = {'train': [n for n in part.names if n not in held], 'val': [n for n in part.names if n in held]}
    return {key: replace(part, names=names) for key, names in chosen.items()}


def find_classes(data: Path, parts: dict[str, LabelPart]) -> list[str]:
    """The names of the classes: the lines of ``classes.txt`` in ``data``, or class_0 up to the largest value found.

    Raises PreflightError for a label map that holds no class indices, or one beyond the names.
    """
    file = data / 'classes.txt'
    names = [line.strip() for line in file.read_text().splitlines() if line.strip()] if file.is_file() else []
    limit = len(names) - 1 if names else LARGEST_CLASS
    found: set[int] = set()
    for label_file, values in [
        pair for part in parts.values() for pair in zip(part.label_files(), part.values(), strict=True)
    ]:
        if wrong := sorted(value for value in values - {IGNORED} if value > limit):
            raise PreflightError(
                f'{file} names {len(names)} classes, so labels must be in [0, {limit}] or {IGNORED} (ignored), got '
                f'{shortlist(map(str, wrong))} in {label_file}'
            )
        found |= values
    if found <= {0, IGNORED}:
        raise PreflightError(
            f'the label maps of {data} hold no class but 0, got the values {sorted(found)}: {IGNORED} means ignored; '
            'write 1 for the pixels of a thing, and 0 for the background'
        )
    return names or [f'class_{value}' for value in range(max(found - {IGNORED}) + 1)]


def _read(file: Path) -> set[int]:
    try:
        with Image.open(file) as image:
            if image.mode not in ('1', 'L', 'P'):
                raise PreflightError(
                    f'a label map must hold one class index a pixel, as an 8-bit PNG of grey values or palette '
                    f'entries, got mode {image.mode} in {file}'
                )
            return {int(value) for value in np.unique(np.asarray(image))}
    except OSError as error:
        raise PreflightError(f'label map {file} cannot be read: {one_line(error)}') from error
