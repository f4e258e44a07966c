"""Soft non-maximum suppression (mmcv ``csrc/pytorch/cpu/nms.cpp``).

Every pick lowers scores before the next one, so picks come one by one. All else is done for many boxes at once: a box
touches few others, and those of many boxes are found together. A pick then costs a few NumPy calls on short arrays.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

__all__ = ['softnms']

CHUNK = 256  # boxes whose neighbours are found together


@np.errstate(all='ignore')  # 0 / 0, and products with the infinite score of a place that counts no more
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Gives the indices of the kept boxes, (K,), by falling decayed score; fills ``dets[:K]`` with boxes and scores.

    Method 0 sets the score of a box that overlaps a better one by ``iou_threshold`` or more to 0, method 1 multiplies
    it by 1 - overlap, method 2 multiplies every score by exp(-overlap^2 / ``sigma``). A box whose score falls below
    ``min_score`` is dropped. Source: Soft-NMS, Bodla et al. 2017, section 3; mmcv passes CPU tensors only.
    """
    overlaps = np.float32(iou_threshold), np.float32(sigma), method, offset
    neighbours = _Neighbours(boxes.detach().float().cpu().numpy(), *overlaps)
    queue = _Queue(scores.detach().float().cpu().numpy(), np.float32(min_score))
    while queue.picked < queue.count:
        queue.decay(*neighbours.of(queue.pick()))
    order = torch.from_numpy(queue.boxes[: queue.count]).to(boxes.device)
    dets[: len(order), :4] = boxes[order].float()
    dets[: len(order), 4] = torch.from_numpy(queue.final[: queue.count])
    return order


class _Queue:
    """Boxes in mmcv's order, which decides between equal scores: the picked ones first, then the rest.

    The best of the rest changes places with the first of them. The last box takes the place of a dropped one.
    """

    def __init__(self, scores: np.ndarray, min_score: np.float32):
        self.picked, self.count = 0, len(scores)
        self.boxes = np.arange(self.count)  # at each place
        self.places = np.arange(self.count)  # of each box; behind all others if it was dropped
        self.scores = np.append(scores, np.float32(np.inf))  # at each place; infinite where nothing is left to decay
        self.final = np.empty_like(scores)
        self.min_score = min_score

    def pick(self) -> int:
        """Brings the best box to the first place of the rest; NaN, as after an overlap of 0 / 0, counts as worst."""
        first, rest = self.picked, self.scores[self.picked : self.count]
        best = first + int(rest.argmax())
        if np.isnan(self.scores[best]):
            best = first + int(np.nan_to_num(rest, nan=-np.inf).argmax())
        box, score = self.boxes[best], self.scores[best]
        self._put(best, self.boxes[first], self.scores[first])
        self._put(first, box, score)
        self.final[first], self.scores[first] = score, np.inf
        self.picked += 1
        return int(box)

    def decay(self, near: np.ndarray, decays: np.ndarray) -> None:
        """Multiplies the scores of the boxes ``near`` by ``decays``, and drops boxes whose score is then too low."""
        places = self.places[near]
        scores = self.scores[places] * decays
        self.scores[places] = scores
        if self.picked == 1:  # later on, other boxes are high enough
            places, scores = np.arange(self.count), self.scores[: self.count]
        low = scores < self.min_score
        if np.count_nonzero(low):
            self._drop(np.sort(places[low]))

    def _drop(self, places: np.ndarray) -> None:
        """Drops the boxes at ``places``, which rise; the last boxes take their places."""
        gone = set(places.tolist())
        self.places[self.boxes[places]] = len(self.boxes)
        for place in places.tolist():
            while self.count - 1 in gone and self.count - 1 > place:
                self.count -= 1
            if place >= self.count:
                return
            self.count -= 1
            if place < self.count:
                self._put(place, self.boxes[self.count], self.scores[self.count])

    def _put(self, place: int, box: int, score: np.float32) -> None:
        self.boxes[place], self.places[box], self.scores[place] = box, place, score


class _Neighbours:
    """The boxes that each box (x1, y1, x2, y2) touches when it is picked, and the factors on their scores."""

    def __init__(self, boxes: np.ndarray, iou_threshold: np.float32, sigma: np.float32, method: int, offset: int):
        self.first = np.ascontiguousarray(boxes[:, :2].T)  # (2, N)
        self.last = np.ascontiguousarray(boxes[:, 2:].T) + np.float32(offset)
        self.areas = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
        # Two boxes without area overlap by 0 / 0 wherever they are, and no overlap is enough for a threshold of 0.
        self.anywhere = ~((self.areas > 0) & (self.areas < np.inf)) | (method == 0 and iou_threshold <= 0)
        self.corners = np.ascontiguousarray(boxes.T)
        self.iou_threshold, self.sigma, self.method, self.offset = iou_threshold, sigma, method, offset
        self.order = self.first[0].argsort(kind='stable')
        self.rank = np.empty_like(self.order)
        self.rank[self.order] = np.arange(len(boxes))
        self.known: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def of(self, box: int) -> tuple[np.ndarray, np.ndarray]:
        """Gives the neighbours of ``box``, and the factors on their scores when it is picked."""
        chunk, row = divmod(int(self.rank[box]), CHUNK)
        if chunk not in self.known:
            self.known[chunk] = self._find(self.order[chunk * CHUNK : (chunk + 1) * CHUNK])
        return self.known[chunk][row]

    def _find(self, boxes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Finds the neighbours of ``boxes``, which lie side by side: those whose scores change."""
        rows, others = self._pairs(boxes)
        decays = self._decays(self._overlaps(boxes[rows], others))
        changed = (decays != 1) & (others != boxes[rows])
        rows, others, decays = rows[changed], others[changed], decays[changed]
        ends = [0, *rows.searchsorted(np.arange(1, len(boxes))).tolist(), len(rows)]
        return [(others[a:b], decays[a:b]) for a, b in pairwise(ends)]

    def _pairs(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives a row of ``boxes`` and another box for each pair that may overlap."""
        near = (self.first[0] <= self.last[0, boxes].max()) & (self.last[0] >= self.first[0, boxes].min())
        others = (near | self.anywhere | self.anywhere[boxes].any()).nonzero()[0]
        touch = np.ones((len(boxes), len(others)), bool)
        for first, last in zip(self.first, self.last, strict=True):
            touch &= first[boxes, None] <= last[others]
            touch &= last[boxes, None] >= first[others]
        touch |= self.anywhere[boxes, None] | self.anywhere[others]
        rows, columns = divmod(np.flatnonzero(touch), len(others))
        return rows, others[columns]

    def _overlaps(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Intersection over union of boxes ``one`` and boxes ``two``."""
        x1, y1, x2, y2 = self.corners
        widths = np.minimum(x2[one], x2[two]) - np.maximum(x1[one], x1[two]) + np.float32(self.offset)
        heights = np.minimum(y2[one], y2[two]) - np.maximum(y1[one], y1[two]) + np.float32(self.offset)
        intersections = np.maximum(widths, 0) * np.maximum(heights, 0)
        return intersections / (self.areas[one] + self.areas[two] - intersections)

    def _decays(self, overlaps: np.ndarray) -> np.ndarray:
        if self.method == 2:
            return np.exp(-(overlaps**2) / self.sigma)
        suppressed = 1 - overlaps if self.method == 1 else np.float32(0)
        return np.where(overlaps >= self.iou_threshold, suppressed, np.float32(1))
