"""Analyses what a detector found in a data set in COCO's format."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import fileio
from pycocotools.coco import COCO

from ...errors import PreflightError
from ..browsing import Split
from .coco_results import find_results, read_results
from .confusions import confusions
from .error_kinds import KINDS, gains, name_errors
from .error_sheets import ErrorSheets
from .matches import Evaluation
from .plots import plot_confusion, plot_curves, plot_gains
from .tables import Row, confusion_lines, mean_row, table_lines, write_csv, write_json

THINGS = {'bbox': 'boxes', 'segm': 'masks'}


class DetectionAnalysis:
    """What went wrong in the results at ``path``, beside the annotations of ``split``.

    Predictions with a score from ``score`` on count as made, in the confusions; average precision and the kinds of
    error count all. Raises PreflightError for results that do not fit the annotations.
    """

    def __init__(self, split: Split, path: Path, score: float):
        self.split, self.path, self.score = split, find_results(path), score
        self.truth = read_truth(split.dataset)
        categories = list(split.dataset.cat_ids)
        names = {number: self.truth.cats[number]['name'] for number in categories}
        self.classes = list(names.values())
        self.kind, found = read_results(self.path, self.truth, names)
        objects = self.truth.loadAnns(self.truth.getAnnIds(catIds=categories))
        if all(item['iscrowd'] for item in objects):
            raise PreflightError(f'{split.dataset.ann_file} must have objects of the classes, and has none')
        if self.kind == 'segm' and not all(item.get('segmentation') for item in objects):
            raise PreflightError(
                f'{split.dataset.ann_file} must have a segmentation for each object, which masks are compared with: '
                f'name predictions of boxes, got {self.path}'
            )
        self.evaluation = Evaluation(self.truth, found, self.kind, categories)
        self.images = list(self.evaluation.images())
        errors = name_errors(self.images)
        self.counts = errors.counts(len(categories))
        self.gained, self.gained_by_class = gains(errors, len(categories))
        self.matrix = confusions(self.images, len(categories), score)

    def rows(self) -> list[Row]:
        """A row for each class: its objects, its average precisions, and what it gains without each kind of error."""
        columns = self.evaluation.average_precisions()
        columns |= {f'without_{kind}': values for kind, values in zip(KINDS, self.gained_by_class, strict=True)}
        objects = self.matrix.sum(1)
        return [
            {'class': name, 'objects': int(objects[k])} | {key: float(values[k]) for key, values in columns.items()}
            for k, name in enumerate(self.classes)
        ]

    def lines(self) -> Iterator[str]:
        """Yields what to read first: scores a class, kinds of error, confusions."""
        predictions = sum(len(image.found) for image in self.images)
        yield f'{self.path}: {predictions} {THINGS[self.kind]} in {len(self.images)} images'
        shown = [{key: value for key, value in row.items() if not key.startswith('without_')} for row in self.rows()]
        yield from table_lines([*shown, mean_row(shown)])
        yield ''
        yield from table_lines(self._kind_rows())
        yield ''
        objects, found = self.matrix[:-1].sum(), self.matrix[:, :-1].sum()
        yield f'With scores of {self.score:g} or more, {self.matrix[:-1, -1].sum()} of {objects} objects were missed,'
        yield f'and {self.matrix[-1].sum()} of {found} predictions had no object of their own.'
        yield from confusion_lines(self.matrix, self.classes)

    def _kind_rows(self) -> list[Row]:
        return [
            {'errors': kind, 'number': int(self.counts[i].sum()), 'AP50 gains without': float(self.gained[i])}
            for i, kind in enumerate(KINDS)
        ]

    def write(self, folder: Path) -> Iterator[Path]:
        """Writes tables, plots and contact sheets into ``folder``; yields their paths."""
        yield write_csv(folder / 'metrics.csv', self.rows())
        yield write_json(folder / 'analysis.json', self.as_json())
        labels = [*self.classes, 'background']
        yield plot_confusion(folder / 'confusion.png', self.matrix, labels, labels)
        precision, recalls = self.evaluation.precision[..., 0], self.evaluation.result.params.recThrs
        yield plot_curves(folder / 'precision_recall.png', precision, recalls, self.classes)
        yield plot_gains(folder / 'error_kinds.png', KINDS, self.gained, self.gained_by_class, self.classes)
        sheets = ErrorSheets(self.split, self.images, self.classes, self._mask)
        yield from sheets.false_positives(folder / 'false_positives.jpg')
        yield from sheets.misses(folder / 'misses.jpg', self.score)

    def as_json(self) -> dict[str, Any]:
        """Everything in plain data, scores in 0..1."""
        rows = self.rows()
        return {
            'predictions': str(self.path),
            'kind': self.kind,
            'images': len(self.images),
            'mean': {key: value for key, value in mean_row(rows).items() if not key.startswith(('class', 'without_'))},
            'classes': rows,
            'errors': {
                row['errors']: {'number': row['number'], 'dAP': row['AP50 gains without']} for row in self._kind_rows()
            },
            'confusion': {
                'score': self.score,
                'classes': [*self.classes, 'background'],
                'annotated_by_found': self.matrix,
            },
        }

    def _mask(self, item: dict[str, Any]) -> np.ndarray | None:
        return None if self.kind == 'bbox' else self.truth.annToMask(item).astype(bool)


def read_truth(dataset: Any) -> COCO:
    """Gives the annotations of an mmdet data set as pycocotools has them."""
    truth = COCO()
    truth.dataset = fileio.load(dataset.ann_file, backend_args=dataset.backend_args)
    for number, item in enumerate(truth.dataset.get('annotations', []), 1):
        item['id'] = number  # pycocotools takes 0 for no object
        item.setdefault('iscrowd', 0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth
