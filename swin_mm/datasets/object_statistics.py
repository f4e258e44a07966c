"""Measures the objects of a data set: how many, how large, of what shape and where, before any augmentation."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..recipes import datasets_in
from .browsing import Split, read_label_map

SHOWN = 40  # classes at most
COCO_SIZES = (32, 96)  # square roots of the areas between small, medium and large objects


class Object(NamedTuple):
    """An object in the image as it is on disk, in pixels; ``ignored`` by the loss, as a crowd is.

    For a detector it is a box, and ``area`` that of the box. For a segmentor it is a connected region of one class, and
    ``area`` the number of its pixels.
    """

    image: str
    label: str
    x: float
    y: float
    width: float
    height: float
    area: float
    image_width: int
    image_height: int
    ignored: bool


def objects_of(split: Split) -> Iterator[Object]:
    """Yields the objects of each image once, however often wrappers repeat it; reads label maps, and no images."""
    found = _regions_in if split.is_labelled else _boxes_of
    for dataset in datasets_in(split.dataset):
        for index in range(len(dataset)):
            yield from found(dataset, dataset.get_data_info(index), split.classes)


def write_statistics(folder: Path, name: str, objects: Sequence[Object]) -> tuple[Path, Path]:
    """Draws ``objects`` and writes them as a table; gives the paths of both. Raises ValueError if there are none."""
    if all(item.ignored for item in objects):
        raise ValueError(f'--stats needs objects that are not ignored, got {len(objects)} in all')
    picture, table = folder / f'{name}_stats.png', folder / f'{name}_objects.csv'
    _draw(picture, [item for item in objects if not item.ignored])
    with open(table, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow([*Object._fields, 'aspect_ratio'])
        writer.writerows([*item, item.width / item.height if item.height else 'nan'] for item in objects)
    return picture, table


def _boxes_of(dataset: Any, info: dict, classes: Sequence[str]) -> Iterator[Object]:
    for item in info.get('instances', ()):
        x, y, right, bottom = item['bbox']
        width, height = right - x, bottom - y
        place = (x, y, width, height, width * height, info['width'], info['height'])
        yield Object(Path(info['img_path']).name, classes[item['bbox_label']], *place, bool(item.get('ignore_flag')))


def _regions_in(dataset: Any, info: dict, classes: Sequence[str]) -> Iterator[Object]:
    label_map = read_label_map(dataset, info)
    for label in np.unique(label_map):
        if label < len(classes):
            regions = cv2.connectedComponentsWithStats((label_map == label).astype(np.uint8), connectivity=8)[2]
            for x, y, width, height, area in regions[1:].tolist():  # the first is the rest of the image
                place = (x, y, width, height, area, label_map.shape[1], label_map.shape[0])
                yield Object(Path(info['img_path']).name, classes[label], *place, False)


def _draw(path: Path, objects: Sequence[Object]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = Counter(item.label for item in objects).most_common()
    figure = Figure(figsize=(11, 9), layout='constrained')
    FigureCanvasAgg(figure)
    (number, sizes), (shapes, places) = figure.subplots(2, 2)
    figure.suptitle(
        f'{len(objects)} objects of {len(counts)} classes in {len({item.image for item in objects})} images'
    )

    shown = counts[:SHOWN][::-1]
    number.barh([label for label, _ in shown], [count for _, count in shown])
    number.set_title('objects a class' + (f', the first {SHOWN} of {len(counts)}' if len(counts) > SHOWN else ''))
    number.tick_params(axis='y', labelsize=9 if len(shown) <= 20 else 6)

    sides = np.sqrt([max(item.area, 1) for item in objects])
    sizes.hist(sides, bins=np.geomspace(sides.min() * 0.99, sides.max() * 1.01, 31))
    sizes.set_xscale('log', base=2)
    sizes.xaxis.set_major_formatter('{x:g}')
    sizes.set(title='size: square root of the area', xlabel="pixels; lines: COCO's small, medium, large")
    for side in COCO_SIZES:
        sizes.axvline(side, color='grey', linestyle='--')

    ratios = np.array([item.width / item.height for item in objects if item.width > 0 and item.height > 0])
    shapes.hist(np.log2(ratios), bins=30)
    shapes.set(title='aspect ratio', xlabel='log2(width / height)')

    x = [(item.x + item.width / 2) / item.image_width for item in objects]
    y = [(item.y + item.height / 2) / item.image_height for item in objects]
    places.hist2d(x, y, bins=20, range=((0, 1), (0, 1)))
    places.set(title='centres', xlabel='share of the width', ylabel='share of the height', ylim=(1, 0))
    figure.savefig(path, dpi=100)
