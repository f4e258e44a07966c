"""Objects in a huge image: found tile by tile, kept as small masks, written as JSON that maps can show."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..overlap import map_ahead
from ..predictors import Detector
from ..prepared import NamedImage
from ..results import Detections
from .grid import Tile, tile_rows
from .merging import Piece, merge
from .raster import Raster


@dataclass(frozen=True)
class Objects:
    """The N objects of a huge image, best first.

    ``size`` (height, width) of the image in pixels. ``boxes`` (N, 4) as (x1, y1, x2, y2) in pixels of the image.
    ``scores`` (N,), ``labels`` (N,), ``names``: as of `Detections`. ``masks``: N boolean arrays, each of the pixels
    around its object alone, and ``corners`` (N, 2): the (x, y) of their first pixels; None for a model without masks.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: list[np.ndarray] | None
    corners: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def run_lengths(self) -> list[dict[str, Any]] | None:
        """Gives the masks as COCO's run-length encodings of the whole image, without ever making such a mask."""
        if self.masks is None:
            return None
        return [_run_lengths(*pair, self.size) for pair in zip(self.masks, self.corners, strict=True)]

    def geometries(self) -> Iterator[dict[str, Any]]:
        """Yields a GeoJSON polygon in pixels for each object: the outline of its mask with holes, or its box."""
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            polygon = None if self.masks is None else _outline(self.masks[i], self.corners[i])
            ring = [[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]]
            yield polygon or {'type': 'Polygon', 'coordinates': [ring]}

    def to_geojson(self, raster: Raster) -> dict[str, Any]:
        """Gives a FeatureCollection in longitude and latitude, as the ``raster`` that says where it is has them."""
        features = []
        for i, geometry in enumerate(self.geometries()):
            properties = dict(name=self.names[i], label=int(self.labels[i]), score=float(self.scores[i]))
            features.append(dict(type='Feature', geometry=raster.to_earth(geometry), properties=properties))
        return dict(type='FeatureCollection', features=features)


def detect_in_tiles(
    detector: Detector, raster: Raster, tile: int, overlap: float, score: float, batch_size: int = 1, workers: int = 0
) -> Objects:
    """Finds the objects of an image with a score of at least ``score``, in tiles as `tile_rows` lays them.

    Raises ValueError or RuntimeError with the place of the first tile that has no result: a map with a hole that nobody
    sees would be worse.
    """
    rows = tile_rows(raster.height, raster.width, tile, overlap)
    tiles = [place for row in rows for place in row]
    # One thread reads: GDAL's open files are for one at a time.
    images = map_ahead(lambda place: NamedImage(raster.name_of(place), raster.read(place)), tiles, min(workers, 1))
    pieces: list[Piece] = []
    with closing(images):  # nothing is read any more when the caller closes the file
        for place, found in zip(tiles, detector.stream(images, batch_size, workers), strict=True):
            if isinstance(found, Exception):
                raise found
            if 'pred_instances' not in found[1].sample:
                raise ValueError(f'{raster.path}: --tile joins objects or classes of pixels, not panoptic segments')
            pieces += _pieces(found[1], place, score)
    kept = merge(pieces, rows)
    return Objects(
        size=(raster.height, raster.width),
        boxes=np.array([piece.box for piece in kept], np.float32).reshape(-1, 4),
        scores=np.array([piece.score for piece in kept], np.float32),
        labels=np.array([piece.label for piece in kept], np.int64),
        names=[detector.classes[piece.label] for piece in kept],
        masks=None if any(piece.mask is None for piece in kept) else [piece.mask for piece in kept],  # type: ignore[misc]
        corners=np.array([piece.corner for piece in kept], np.int64).reshape(-1, 2),
    )


def _pieces(found: Detections, place: Tile, score: float) -> Iterator[Piece]:
    """Yields what a tile has found, in coordinates of the image."""
    for i in np.flatnonzero(found.scores >= score):
        box, corner, mask = found.boxes[i], place[:2], None
        if found.masks is not None:
            ys, xs = (np.flatnonzero(found.masks[i].any(axis=axis)) for axis in (1, 0))
            if not len(ys):
                continue  # a box without a pixel in its mask
            mask = found.masks[i][ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].copy()  # a view would keep the whole
            corner = (place.left + int(xs[0]), place.top + int(ys[0]))
        moved = box.astype(np.float64) + np.tile(place[:2], 2)
        yield Piece(place, moved, float(found.scores[i]), int(found.labels[i]), corner, mask)


def _run_lengths(mask: np.ndarray, corner: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
    """COCO counts down the columns, beginning with what is not the object."""
    from pycocotools import mask as coco

    (x, y), height = corner, size[0]
    columns = np.zeros((mask.shape[1], height), bool)
    columns[:, y : y + mask.shape[0]] = mask.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + int(x) * height
    counts = np.diff(changes, prepend=0, append=size[0] * size[1]).tolist()
    code = coco.frPyObjects(dict(size=list(size), counts=counts), *size)
    return dict(size=list(size), counts=code['counts'].decode())


def _outline(mask: np.ndarray, corner: Sequence[int]) -> dict[str, Any] | None:
    """The largest piece of a mask as a polygon; None if it has no area."""
    from affine import Affine
    from rasterio.features import shapes

    place = Affine.translation(*map(float, corner))
    polygons = [shape for shape, _ in shapes(mask.astype(np.uint8), mask=mask, connectivity=8, transform=place)]
    return max(polygons, key=lambda shape: _ring_area(shape['coordinates'][0]), default=None)


def _ring_area(ring: Sequence[Sequence[float]]) -> float:
    x, y = np.array(ring).T
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2
