"""Names the kind of each error of a detector, and what AP50 would gain without that kind.

The kinds and their definitions are those of TIDE: Bolya et al., A General Toolbox for Identifying Object Detection
Errors, 2020, section 2.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .matches import FOREGROUND, IN_CROWD, UNMATCHED, Matches

BACKGROUND = 0.1  # the IoU up to which a prediction has nothing to do with an object
KINDS = ('localisation', 'class', 'both', 'duplicate', 'background', 'missed')
LOCALISATION, CLASS, BOTH, DUPLICATE, BACKGROUND_KIND, MISSED = range(len(KINDS))
RIGHT = -1
RECALLS = np.linspace(0, 1, 101)


class Errors(NamedTuple):
    """The kind of each of the N predictions and M objects of all images; predictions in crowds are left out.

    ``kinds`` (N,) are places in KINDS or RIGHT. ``meant`` (N,): the object that a wrong prediction overlaps with, -1
    for none. ``labels`` (N,) and ``object_labels`` (M,) count the classes; ``taken`` and ``missed`` (M,) are bool.
    """

    labels: np.ndarray
    scores: np.ndarray
    kinds: np.ndarray
    meant: np.ndarray
    object_labels: np.ndarray
    taken: np.ndarray
    missed: np.ndarray

    def counts(self, classes: int) -> np.ndarray:
        """The number of errors by kind and class, (kinds, classes); a missed object counts for its own class."""
        parts = [self.labels[self.kinds == kind] for kind in range(MISSED)] + [self.object_labels[self.missed]]
        return np.stack([np.bincount(part, minlength=classes) for part in parts])


def name_errors(images: Iterable[Matches]) -> Errors:
    """Names the errors of all images."""
    parts = [_errors_of(image) for image in images]
    starts = np.cumsum([0, *(len(part.taken) for part in parts)])
    moved = [
        part._replace(meant=np.where(part.meant < 0, -1, part.meant + start))
        for part, start in zip(parts, starts, strict=False)
    ]
    return Errors(*(np.concatenate(columns) for columns in zip(*moved, strict=True)))


def kinds_of(image: Matches) -> tuple[np.ndarray, np.ndarray]:
    """The kind of each prediction of an image, (D,), IN_CROWD for one that does not count, and the object it means."""
    # One more object that overlaps with nothing: an image without objects has a largest IoU too.
    ious = np.pad(image.ious, ((0, 0), (0, 1)))
    same = np.pad(image.labels[:, None] == image.object_labels, ((0, 0), (0, 1)))
    taken = np.isin(np.arange(ious.shape[1]), image.partners)
    own, other = np.where(same, ious, 0), np.where(same, 0, ious)
    again = own * taken
    is_kind = [
        image.partners != UNMATCHED,
        (own.max(1) >= BACKGROUND) & (own.max(1) <= FOREGROUND),
        other.max(1) >= FOREGROUND,
        again.max(1) >= FOREGROUND,
        ious.max(1) <= BACKGROUND,
    ]
    matched = np.where(image.partners == IN_CROWD, IN_CROWD, RIGHT)
    kinds = np.select(is_kind, [matched, LOCALISATION, CLASS, DUPLICATE, BACKGROUND_KIND], BOTH)
    meant = np.select(is_kind, [-1, own.argmax(1), other.argmax(1), again.argmax(1), -1], -1)
    return kinds, meant


def _errors_of(image: Matches) -> Errors:
    kinds, meant = kinds_of(image)
    taken = np.isin(np.arange(len(image.objects)), image.partners)
    mendable = np.isin(np.arange(len(image.objects)), meant[(kinds == LOCALISATION) | (kinds == CLASS)])
    counted = kinds != IN_CROWD
    return Errors(
        image.labels[counted],
        image.scores[counted],
        kinds[counted],
        meant[counted],
        image.object_labels,
        taken,
        ~taken & ~mendable,
    )


def gains(errors: Errors, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """TIDE's dAP of each kind over all classes, (kinds,), and what each class gains, (kinds, classes), in 0..1.

    A prediction of the wrong class or place becomes right if its object is not found otherwise and no better
    prediction means it; every other wrong prediction goes; missed objects are no longer asked for. As in COCO's mean, a
    class without objects counts for nothing (TIDE's own program counts it as 0). No dAP is below 0. What a class gains
    is NaN without objects, and can be below 0.
    """
    wanted = np.bincount(errors.object_labels, minlength=classes)
    before = _average_precisions(errors.labels, errors.scores, errors.kinds == RIGHT, wanted)
    after = np.stack([_mended(errors, kind, wanted) for kind in range(len(KINDS))])
    counted = wanted > 0
    # A class of which nothing is left, neither objects nor predictions, leaves TIDE's mean.
    means = np.array([_mean(row[counted]) for row in after])
    by_class = np.where(np.isnan(after), 1, after) - before
    return np.maximum(means - _mean(before[counted]), 0), np.where(counted, by_class, np.nan)


def _mean(values: np.ndarray) -> float:
    """The mean without NaN; 0 of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def _mended(errors: Errors, kind: int, wanted: np.ndarray) -> np.ndarray:
    """AP50 by class without the errors of a ``kind``."""
    labels, right, kept = errors.labels.copy(), errors.kinds == RIGHT, errors.kinds != kind
    if kind == MISSED:
        wanted = wanted - np.bincount(errors.object_labels[errors.missed], minlength=len(wanted))
    if kind in (LOCALISATION, CLASS):
        means = np.flatnonzero(np.isin(errors.kinds, (LOCALISATION, CLASS)))
        # The predictions of an image are sorted, so the first that means an object is the best.
        objects, first = np.unique(errors.meant[means], return_index=True)
        mended = means[first[~errors.taken[objects]]]
        mended = mended[errors.kinds[mended] == kind]
        labels[mended] = errors.object_labels[errors.meant[mended]]
        right[mended] = kept[mended] = True
    return _average_precisions(labels[kept], errors.scores[kept], right[kept], wanted)


def _average_precisions(labels: np.ndarray, scores: np.ndarray, right: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """COCO's average precision of each class, (classes,); NaN for one with neither objects nor predictions."""
    order = np.argsort(-scores, kind='stable')
    labels, right = labels[order], right[order]
    return np.array([_average_precision(right[labels == label], number) for label, number in enumerate(wanted)])


def _average_precision(right: np.ndarray, wanted: int) -> float:
    if not wanted:
        return 0.0 if len(right) else np.nan
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    places = np.searchsorted(hits / wanted, RECALLS)
    return float(np.append(best, 0)[places].mean())
