"""Analyses the label maps that a segmentor predicted."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...errors import PreflightError, shortlist
from ..browsing import IGNORED_PIXEL, Sample, Split, read_label_map
from ..contact_sheets import TILE, draw, write_tiles
from .plots import plot_confusion
from .tables import Row, confusion_lines, mean_row, table_lines, write_csv, write_json

WORST = 8  # images of the sheet
WANTED = (
    'a folder with a PNG of class indices for each image, as `swin-mm test CONFIG CHECKPOINT --out FOLDER` writes it'
)


class ImageScore(NamedTuple):
    """An image at a ``place`` of the data set.

    ``iou`` is the mean over the classes that are annotated or found in it, ``accuracy`` the share of right pixels. Both
    are NaN if all pixels are ignored.
    """

    place: int
    name: str
    iou: float
    accuracy: float


class SegmentationAnalysis:
    """What went wrong in the label maps in ``folder``, beside those of ``split``.

    Raises PreflightError for maps that do not fit, ValueError for annotated ones that cannot be read.
    """

    def __init__(self, split: Split, folder: Path):
        self.split, self.folder, self.classes = split, folder, list(split.classes)
        dataset = split.dataset
        self.infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        self.paths = _find_maps(folder, [Path(info['img_path']) for info in self.infos])
        self.matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self.images: list[ImageScore] = []
        for index, info in enumerate(self.infos):
            matrix = self._compare(*self._maps(index))
            self.matrix += matrix
            accuracy = matrix.trace() / matrix.sum() if matrix.any() else np.nan
            iou = mean_row(self._scores(matrix))['IoU']
            self.images.append(ImageScore(index, Path(info['img_path']).name, iou, float(accuracy)))

    def rows(self) -> list[Row]:
        """A row for each class: its annotated pixels, IoU and accuracy, the share of these that is found."""
        return self._scores(self.matrix)

    def lines(self) -> Iterator[str]:
        """Yields what to read first: scores a class, confusions."""
        yield f'{self.folder}: label maps of {len(self.images)} images'
        rows = self.rows()
        yield from table_lines([*rows, mean_row(rows)])
        yield ''
        yield f'{100 * self._accuracy():.1f} % of the pixels are right. Most of the wrong ones:'
        yield from confusion_lines(self.matrix, self.classes)

    def write(self, folder: Path) -> Iterator[Path]:
        """Writes tables, a plot and a contact sheet into ``folder``; yields their paths."""
        yield write_csv(folder / 'metrics.csv', self.rows())
        yield write_csv(folder / 'images.csv', [image._asdict() for image in self._worst_first()])
        yield write_json(folder / 'analysis.json', self.as_json())
        yield plot_confusion(folder / 'confusion.png', self.matrix, self.classes, self.classes)
        tiles = [tile for image in self._worst_first()[:WORST] for tile in self._tiles(image)]
        yield write_tiles(folder / 'worst.jpg', tiles, 3)

    def as_json(self) -> dict[str, Any]:
        """Everything in plain data, scores in 0..1."""
        rows = self.rows()
        mean = mean_row(rows)
        return {
            'predictions': str(self.folder),
            'images': len(self.images),
            'mean': {'IoU': mean['IoU'], 'accuracy': mean['accuracy']},
            'pixel_accuracy': self._accuracy(),
            'classes': rows,
            'confusion': {'classes': self.classes, 'annotated_by_found': self.matrix},
        }

    def _accuracy(self) -> float:
        return float(self.matrix.trace() / max(self.matrix.sum(), 1))

    def _scores(self, matrix: np.ndarray) -> list[Row]:
        right, annotated = matrix.diagonal(), matrix.sum(1)
        union = annotated + matrix.sum(0) - right
        return [
            {
                'class': name,
                'pixels': int(annotated[k]),
                'IoU': float(right[k] / union[k]) if union[k] else np.nan,
                'accuracy': float(right[k] / annotated[k]) if annotated[k] else np.nan,
            }
            for k, name in enumerate(self.classes)
        ]

    def _maps(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The annotated and the found label map of an image, (height, width) each."""
        info, path = self.infos[index], self.paths[index]
        truth = read_label_map(self.split.dataset, info)
        found = _read_map(path, self.split.dataset.reduce_zero_label, len(self.classes))
        if found.shape != truth.shape:
            raise PreflightError(
                f'{path} must be as large as the label map of {info["img_path"]}, {truth.shape[0]} x {truth.shape[1]} '
                f'(height x width), got {found.shape[0]} x {found.shape[1]}'
            )
        wrong = np.unique(truth[(truth >= len(self.classes)) & (truth != IGNORED_PIXEL)])
        if wrong.size:
            raise PreflightError(
                f'labels must be below {len(self.classes)}, the number of classes, or {IGNORED_PIXEL} (ignored), got '
                f'{shortlist(map(str, wrong))} in {info["seg_map_path"]}'
            )
        return truth, found

    def _compare(self, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
        """The number of pixels by annotated and found class, (classes, classes)."""
        counted, number = truth != IGNORED_PIXEL, len(self.classes)
        pairs = truth[counted].astype(np.int64) * number + found[counted]
        return np.bincount(pairs, minlength=number * number).reshape(number, number)

    def _worst_first(self) -> list[ImageScore]:
        return sorted(self.images, key=lambda image: np.nan_to_num(image.iou, nan=np.inf))

    def _tiles(self, image: ImageScore) -> Iterator[tuple[str, Image.Image]]:
        """The image, what is annotated, and what was found."""
        pixels = self.split.image(image.place)
        text = f'mean IoU {100 * image.iou:.1f}, accuracy {100 * image.accuracy:.1f}'
        captions = (f'{image.name[-48:]}\n{text}', '\nannotated', '\nfound')
        for caption, label_map in zip(captions, (None, *self._maps(image.place)), strict=True):
            nothing = np.zeros((0, 4)), np.zeros(0, int), None
            yield caption, draw(Sample(image.name, pixels, *nothing, label_map), self.classes, self.split.palette, TILE)


def _find_maps(folder: Path, images: Sequence[Path]) -> list[Path]:
    """Gives the predicted label map of each of the ``images``."""
    if not folder.is_dir():
        raise PreflightError(f'PREDICTIONS of a segmentor must be {WANTED}, and {folder} is no folder')
    present = {path.stem for path in folder.glob('*.png')}
    if not present:
        raise PreflightError(f'PREDICTIONS of a segmentor must be {WANTED}, got {folder} without a PNG')
    names = [path.stem for path in images]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise PreflightError(f'images must have different names for {WANTED}, got {shortlist(twice)} more than once')
    if lost := [name for name in names if name not in present]:
        raise PreflightError(f'{folder} must have a PNG for each image, and has none of {shortlist(lost)}')
    if strange := sorted(present - set(names)):
        raise PreflightError(
            f'{folder} has predictions of images that the data set does not have, {shortlist(strange)}: is it of '
            'another data set?'
        )
    return [folder / f'{name}.png' for name in names]


def _read_map(path: Path, lifted: bool, classes: int) -> np.ndarray:
    """Reads the class of each pixel, int64 (height, width); ``lifted``: the data set's own files count from 1."""
    # `swin-mm predict` writes a JSON beside each map, and counts from 0.
    first = int(lifted and not path.with_suffix('.json').exists())
    with Image.open(path) as image:
        labels = np.asarray(image)
    if labels.ndim != 2:
        raise PreflightError(f'PREDICTIONS of a segmentor must be {WANTED}, got colours in {path}')
    labels = labels.astype(np.int64) - first
    if labels.min() < 0 or labels.max() >= classes:
        raise PreflightError(
            f'label maps of {classes} classes must hold {first} to {classes - 1 + first}, got '
            f'{labels.min() + first} to {labels.max() + first} in {path}'
        )
    return labels
