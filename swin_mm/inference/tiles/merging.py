"""Objects that several tiles found, put together: each once, and whole.

A tile cuts what lies across its edge. Four rules, in this order:

1. A cut object that lies within what another tile sees is that tile's to judge: it saw the object's end. It is dropped.
   With an overlap as wide as the objects every object is whole in some tile, and this leaves nothing cut.
2. Two objects of one class in neighbouring tiles are the same if, in the region that both tiles see, they cover the
   same pixels: an IoU of 0.5 there, of masks if there are masks. Best pairs first, an object has one partner a tile.
3. Of the same object the whole one with the best score stays. If every tile cut it, it is as wide as all of them: the
   box around the pieces, their masks together, the best score.
4. Of two of one class that other tiles gave, and that still cover each other, the better one stays: an IoU of their
   boxes of 0.5, as a detector itself drops doubles.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from .grid import Tile

MARGIN = 2  # pixels from an edge within which an object counts as cut
SAME = 0.5  # IoU in the region that two tiles see


@dataclass
class Piece:
    """What one tile found. ``box`` as (x1, y1, x2, y2) in pixels of the image.

    ``mask`` (height, width): booleans, whose first pixel is ``corner`` (x, y) of the image; None without masks.
    """

    tile: Tile
    box: np.ndarray
    score: float
    label: int
    corner: tuple[int, int]
    mask: np.ndarray | None
    is_cut: bool = False


def merge(pieces: Sequence[Piece], rows: Sequence[Sequence[Tile]]) -> list[Piece]:
    """Gives each object of an image that ``rows`` of tiles cover once, best first."""
    height, width = rows[-1][-1].bottom, rows[-1][-1].right
    for piece in pieces:
        piece.is_cut = _touches(piece.box, piece.tile.inner_edges(height, width))
    neighbours = {tile: list(_neighbours(rows, y, x)) for y, row in enumerate(rows) for x, tile in enumerate(row)}
    found: dict[Tile, list[Piece]] = defaultdict(list)
    for piece in pieces:
        ends = (tile.inner_edges(height, width) for tile in neighbours[piece.tile])
        if not (piece.is_cut and any(not _touches(piece.box, edges) for edges in ends)):
            found[piece.tile].append(piece)
    groups = _Groups()
    for tile, here in found.items():
        for other in neighbours[tile]:
            if tile < other and other in found:
                for one, same in _same(here, found[other]):
                    groups.join(one, same)
    kept = [_whole(group) for group in groups.of(piece for here in found.values() for piece in here)]
    found.clear()
    for piece in sorted(kept, key=lambda piece: -piece.score):
        better = (other for tile in neighbours[piece.tile] for other in found.get(tile, ()))
        if not any(other.label == piece.label and _box_iou(other.box, piece.box) >= SAME for other in better):
            found[piece.tile].append(piece)
    return sorted((piece for here in found.values() for piece in here), key=lambda piece: -piece.score)


def _touches(box: np.ndarray, edges: tuple[float, float, float, float]) -> bool:
    left, top, right, bottom = edges
    return bool(box[0] < left + MARGIN or box[1] < top + MARGIN or box[2] > right - MARGIN or box[3] > bottom - MARGIN)


def _neighbours(rows: Sequence[Sequence[Tile]], y: int, x: int) -> Iterator[Tile]:
    """Yields the tiles that overlap one: up to the third in each direction, where a last row had to be squeezed in."""
    one = rows[y][x]
    for row in rows[max(y - 3, 0) : y + 4]:
        for other in row[max(x - 3, 0) : x + 4]:
            left, top, right, bottom = _common(one, other)
            if other != one and left < right and top < bottom:
                yield other


def _common(one: Tile, other: Tile) -> Tile:
    return Tile(*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:]))


def _same(here: Sequence[Piece], there: Sequence[Piece]) -> Iterator[tuple[Piece, Piece]]:
    """Yields the pairs that are one object, best first; each piece once."""
    common = _common(here[0].tile, there[0].tile)
    pairs = [
        (iou, i, j)
        for (i, a), (j, b) in product(enumerate(here), enumerate(there))
        if a.label == b.label and (iou := _iou(a, b, common)) >= SAME
    ]
    taken_here: set[int] = set()
    taken_there: set[int] = set()
    for _, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if i not in taken_here and j not in taken_there:
            taken_here.add(i)
            taken_there.add(j)
            yield here[i], there[j]


def _iou(one: Piece, other: Piece, region: Tile) -> float:
    """The IoU of two pieces within a region that both tiles see."""
    a, b = (_clip(piece.box, region) for piece in (one, other))
    if one.mask is None or other.mask is None or not _area(_clip(a, b)):
        return _box_iou(a, b)
    here, there = (_canvas(piece, region) for piece in (one, other))
    return float((here & there).sum() / max((here | there).sum(), 1))


def _box_iou(one: np.ndarray, other: np.ndarray) -> float:
    shared = _area(_clip(one, other))
    return shared / (_area(one) + _area(other) - shared) if shared else 0.0


def _clip(box: np.ndarray, region: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(box[:2], region[:2]), np.minimum(box[2:], region[2:])])


def _area(box: np.ndarray) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def _canvas(piece: Piece, region: Tile) -> np.ndarray:
    """The mask of a piece on a canvas of the region's size."""
    assert piece.mask is not None
    left, top, right, bottom = region
    canvas = np.zeros((bottom - top, right - left), bool)
    (x, y), (height, width) = piece.corner, piece.mask.shape
    x1, y1, x2, y2 = max(x, left), max(y, top), min(x + width, right), min(y + height, bottom)
    if x1 < x2 and y1 < y2:
        canvas[y1 - top : y2 - top, x1 - left : x2 - left] = piece.mask[y1 - y : y2 - y, x1 - x : x2 - x]
    return canvas


def _whole(group: Sequence[Piece]) -> Piece:
    """The piece that stands for a group."""
    whole = [piece for piece in group if not piece.is_cut]
    best = max(whole or group, key=lambda piece: piece.score)
    if whole or len(group) == 1:
        return best
    boxes = np.array([piece.box for piece in group])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    if best.mask is None:
        return Piece(best.tile, box, best.score, best.label, best.corner, None, True)
    corners = np.array([piece.corner for piece in group])
    ends = corners + np.array([piece.mask.shape[::-1] for piece in group if piece.mask is not None])
    extent = Tile(*corners.min(axis=0).tolist(), *ends.max(axis=0).tolist())
    mask = np.logical_or.reduce([_canvas(piece, extent) for piece in group])
    return Piece(best.tile, box, best.score, best.label, extent[:2], mask, True)


class _Groups:
    """Sets of pieces that are one object (union-find)."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}

    def _root(self, number: int) -> int:
        while (parent := self.parents.get(number, number)) != number:
            number = parent
        return number

    def join(self, one: Piece, other: Piece) -> None:
        """Says that two pieces are one object."""
        self.parents[self._root(id(one))] = self._root(id(other))

    def of(self, pieces: Iterator[Piece]) -> list[list[Piece]]:
        """Gives the groups of the pieces."""
        groups: dict[int, list[Piece]] = defaultdict(list)
        for piece in pieces:
            groups[self._root(id(piece))].append(piece)
        return list(groups.values())
