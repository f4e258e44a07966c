"""Shows the worst errors of a detector in their surroundings, as contact sheets."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..browsing import Sample, Split
from ..contact_sheets import TILE, draw, write_tiles
from .confusions import is_made, pair
from .error_kinds import BACKGROUND, BOTH, CLASS, KINDS, LOCALISATION, RIGHT, kinds_of
from .matches import IN_CROWD, Matches

SHOWN, COLUMNS, LETTERS = 24, 4, 54  # errors of a sheet; letters of a line
AROUND, LEAST = 2.5, 96  # the side of a crop: that many sides of the object, and at least that many pixels
FOUND, THERE = (220, 30, 30), (20, 130, 40)  # colours of predictions and objects


class Mark(NamedTuple):
    """A prediction or an object in COCO's format, with its colour and the text to write, '' for none."""

    item: dict[str, Any]
    colour: tuple[int, int, int]
    text: str = ''


class ErrorSheets:
    """Draws errors in ``images`` of ``split``. ``mask_of`` gives an entry's mask (height, width), or None."""

    def __init__(
        self,
        split: Split,
        images: Sequence[Matches],
        classes: Sequence[str],
        mask_of: Callable[[dict[str, Any]], np.ndarray | None],
    ):
        self.split, self.images, self.classes, self.mask_of = split, images, classes, mask_of
        infos = (split.dataset.get_data_info(index) for index in range(len(split.dataset)))
        self.items = {info['img_id']: (index, Path(info['img_path']).name) for index, info in enumerate(infos)}

    def false_positives(self, path: Path) -> Iterator[Path]:
        """Writes the sheet of the wrong predictions with the highest scores, if there are any; yields its path."""
        wrong = []
        for image in self.images:
            kinds, meant = kinds_of(image)
            places = np.flatnonzero((kinds != RIGHT) & (kinds != IN_CROWD))
            wrong += [(image, int(i), int(kinds[i]), int(meant[i])) for i in places]
        wrong.sort(key=lambda row: -row[0].found[row[1]]['score'])
        yield from self._write(path, [self._false_positive(*row) for row in wrong[:SHOWN]])

    def misses(self, path: Path, score: float) -> Iterator[Path]:
        """Writes the sheet of the largest objects that no prediction from ``score`` on finds; yields its path."""
        missed = []
        for image in self.images:
            found = {j for _, j in pair(image, score)}
            missed += [(image, j) for j in range(len(image.objects)) if j not in found]
        missed.sort(key=lambda row: -row[0].objects[row[1]]['area'])
        yield from self._write(path, [self._miss(image, j, score) for image, j in missed[:SHOWN]])

    def _write(self, path: Path, tiles: Sequence[tuple[str, Image.Image]]) -> Iterator[Path]:
        if tiles:
            yield write_tiles(path, tiles, COLUMNS)

    def _false_positive(self, image: Matches, i: int, kind: int, meant: int) -> tuple[str, Image.Image]:
        marks = [
            Mark(item, THERE, self.classes[label])
            for item, label in zip(image.objects, image.object_labels, strict=True)
        ]
        text = f'{self.classes[image.labels[i]]} {image.scores[i]:.2f}: {KINDS[kind]}'
        if kind == CLASS:
            text += f', is {self.classes[image.object_labels[meant]]}'
        elif kind in (LOCALISATION, BOTH):
            text += f', IoU {image.ious[i].max() if meant < 0 else image.ious[i, meant]:.2f}'
        return self._tile(image, text, image.found[i], [*marks, Mark(image.found[i], FOUND)])

    def _miss(self, image: Matches, j: int, score: float) -> tuple[str, Image.Image]:
        marks = [
            Mark(item, FOUND, f'{self.classes[label]} {item["score"]:.2f}')
            for item, label, made in zip(image.found, image.labels, is_made(image, score), strict=True)
            if made
        ]
        text = f'{self.classes[image.object_labels[j]]}, nothing near it'
        if image.ious[:, j].max(initial=0) > BACKGROUND:
            i = image.ious[:, j].argmax()
            text = (
                f'{self.classes[image.object_labels[j]]}; nearest: {self.classes[image.labels[i]]} '
                f'{image.scores[i]:.2f}, IoU {image.ious[i, j]:.2f}'
            )
        return self._tile(image, text, image.objects[j], [*marks, Mark(image.objects[j], THERE)])

    def _tile(self, image: Matches, text: str, error: dict, marks: Sequence[Mark]) -> tuple[str, Image.Image]:
        """The caption and the part of an image around an ``error``, with the ``marks`` that reach into it."""
        index, name = self.items[image.image]
        pixels = self.split.image(index)
        rows, columns = _part(error['bbox'], *pixels.shape[:2])
        marks = [mark for mark in marks if mark.item is error or _reaches(mark.item['bbox'], rows, columns)]
        masks = [self.mask_of(mark.item) for mark in marks]
        boxes = np.array([mark.item['bbox'] for mark in marks], float)
        boxes[:, 2:] += boxes[:, :2]
        sample = Sample(
            name,
            pixels[rows, columns],
            boxes - [columns.start, rows.start] * 2,
            np.arange(len(marks)),
            None if masks[0] is None else np.stack([mask[rows, columns] for mask in masks if mask is not None]),
            None,
        )
        names, colours = [mark.text for mark in marks], np.array([mark.colour for mark in marks])
        return f'{name[-LETTERS:]}\n{text[:LETTERS]}', draw(sample, names, colours, TILE)


def _part(box: Sequence[float], height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a square around ``box``, as far as the image goes."""
    x, y, across, down = box
    side = round(max(AROUND * max(across, down), LEAST))
    return _span(y + down / 2, side, height), _span(x + across / 2, side, width)


def _span(middle: float, side: int, size: int) -> slice:
    start = round(min(max(middle - side / 2, 0), max(size - side, 0)))
    return slice(start, min(start + side, size))


def _reaches(box: Sequence[float], rows: slice, columns: slice) -> bool:
    x, y, across, down = box
    return x < columns.stop and y < rows.stop and x + across > columns.start and y + down > rows.start
