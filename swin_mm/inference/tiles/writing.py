"""Writes what is found in a huge image: JSON, GeoJSON or a map of labels, and an overview with the result drawn."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...checkpoints.whole_file import whole_file
from ..drawing import OPACITY, Palette, class_colours
from ..predictors import Segmentor
from .objects import Objects
from .raster import Raster

OVERVIEW = 2048  # pixels of its long side


def write_objects(found: Objects, raster: Raster, folder: Path, name: str, palette: Palette) -> Iterator[Path]:
    """Yields the files written: ``preds/NAME.json``, ``preds/NAME.geojson`` of a place on Earth, ``vis/NAME.jpg``.

    The JSON has the layout of a small image's, with the image's ``size`` (height, width) besides.
    """
    content: dict[str, Any] = dict(
        size=list(found.size),
        labels=found.labels.tolist(),
        label_names=found.names,
        scores=found.scores.tolist(),
        bboxes=found.boxes.tolist(),
    )
    if (masks := found.run_lengths()) is not None:
        content['masks'] = masks
    yield _written(folder / 'preds' / f'{name}.json', json.dumps(content))
    if raster.is_geographic:
        yield _written(folder / 'preds' / f'{name}.geojson', json.dumps(found.to_geojson(raster)))
    yield _save(_draw_objects(found, raster, palette), folder / 'vis' / f'{name}.jpg')


def write_labels(
    bands: Iterator[np.ndarray], segmentor: Segmentor, raster: Raster, folder: Path, name: str, opacity: float = OPACITY
) -> Iterator[Path]:
    """Yields the files written: the map of labels, the classes' shares as ``preds/NAME.json``, and ``vis/NAME.jpg``.

    The map is ``preds/NAME.tif`` of a place on Earth, else a PNG. A band is in memory at a time, and for a PNG all
    labels, a byte a pixel.
    """
    classes = segmentor.classes
    step = max(1, -(-max(raster.height, raster.width) // OVERVIEW))
    counts, overview, top = np.zeros(len(classes), np.int64), [], 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal top
        for band in bands:
            counts[:] += np.bincount(band.ravel(), minlength=len(classes))
            overview.append(band[-top % step :: step, ::step].copy())
            top += len(band)
            yield band

    path = folder / 'preds' / f'{name}{".tif" if raster.is_geographic else ".png"}'
    with whole_file(path) as partial:  # a map that ends in the middle would look whole
        if raster.is_geographic:
            _save_geotiff(counted(), partial, raster)
        else:
            Image.fromarray(np.concatenate(list(counted()))).save(partial, 'PNG')
    yield path
    order = np.argsort(-counts, kind='stable')
    shares = {classes[i]: float(counts[i] / counts.sum()) for i in order if counts[i]}
    labels = {one: classes.index(one) for one in shares}
    yield _written(folder / 'preds' / f'{name}.json', json.dumps(dict(shares=shares, labels=labels)))
    drawn = np.concatenate(overview)
    colours = class_colours(segmentor.dataset_meta['palette'], len(classes))[drawn]
    shown = Image.fromarray(raster.overview(OVERVIEW)).resize(drawn.shape[::-1])
    yield _save(
        (np.asarray(shown) * (1 - opacity) + colours * opacity).astype(np.uint8), folder / 'vis' / f'{name}.jpg'
    )


def _save_geotiff(bands: Iterator[np.ndarray], path: Path, raster: Raster) -> None:
    """Writes labels at the place on Earth of ``raster``, a band at a time."""
    import rasterio
    from rasterio.windows import Window

    first = next(bands)
    place = dict(crs=raster.file.crs, transform=raster.file.transform)
    size = dict(height=raster.height, width=raster.width, count=1, dtype=first.dtype)
    with rasterio.open(path, 'w', driver='GTiff', compress='deflate', bigtiff='if_safer', **size, **place) as file:
        top = 0
        for band in chain([first], bands):
            file.write(band, 1, window=Window(0, top, band.shape[1], len(band)))
            top += len(band)


def _draw_objects(found: Objects, raster: Raster, palette: Palette) -> np.ndarray:
    import cv2

    image = raster.overview(OVERVIEW)
    scale = np.array(image.shape[1::-1]) / found.size[::-1]
    colours = class_colours(palette, 1 + max(found.labels, default=0))
    for label, geometry in zip(found.labels, found.geometries(), strict=True):
        rings = [np.rint(np.array(ring) * scale).astype(np.int32) for ring in geometry['coordinates']]
        cv2.polylines(image, rings, isClosed=True, color=colours[label].tolist(), thickness=2)
    return image


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _save(image: np.ndarray, path: Path) -> Path:
    Image.fromarray(image).save(path, quality=90)
    return path
