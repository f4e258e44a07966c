"""Counts which class a detector finds where another one is."""

from collections.abc import Sequence

import numpy as np

from .matches import FOREGROUND, IN_CROWD, Matches


def pair(image: Matches, score: float) -> list[tuple[int, int]]:
    """Pairs predictions from ``score`` on with objects whose IoU is 0.5 or more: (prediction, object), each once.

    Pairs of one class come first, then those of the largest IoU.
    """
    found, objects = np.nonzero((image.ious >= FOREGROUND) & is_made(image, score)[:, None])
    differ = image.labels[found] != image.object_labels[objects]
    pairs: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for place in np.lexsort((-image.ious[found, objects], differ)):
        i, j = int(found[place]), int(objects[place])
        if i not in used[0] and j not in used[1]:
            pairs.append((i, j))
            used[0].add(i)
            used[1].add(j)
    return pairs


def confusions(images: Sequence[Matches], classes: int, score: float) -> np.ndarray:
    """The number of pairs by class of the object and of the prediction, (classes + 1, classes + 1).

    The last row has predictions without an object, the last column objects without a prediction.
    """
    matrix = np.zeros((classes + 1, classes + 1), int)
    for image in images:
        there, found = np.full(len(image.labels), classes), np.full(len(image.object_labels), classes)
        for i, j in pair(image, score):
            there[i], found[j] = image.object_labels[j], image.labels[i]
        made = is_made(image, score)
        np.add.at(matrix, (there[made], image.labels[made]), 1)
        missed = found == classes
        np.add.at(matrix, (image.object_labels[missed], found[missed]), 1)
    return matrix


def is_made(image: Matches, score: float) -> np.ndarray:
    """Which predictions of an image count from ``score`` on, (D,) bool; none in a crowd."""
    return (image.scores >= score) & (image.partners != IN_CROWD)
