"""Reads LabelMe's files: a JSON file an image."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import PreflightError, one_line
from .coco import size_of
from .find import role, visible

Found = dict[str, tuple[Path, dict[str, Any]]]  # part -> its folder of images, and content in COCO's format


def read_labelme(data: Path) -> Found:
    """Polygons and rectangles of LabelMe below ``data``; pieces of one ``group_id`` are one object."""
    found: Found = {}
    numbers: dict[str, int] = {}
    for file in visible(data, '.json') if data.is_dir() else []:
        try:
            labelled = json.loads(file.read_bytes())
        except ValueError as error:
            raise PreflightError(f'{file} cannot be read as JSON: {one_line(error)}') from error
        if not isinstance(labelled, dict) or not {'shapes', 'imagePath'} <= labelled.keys():
            continue
        name = role(file.relative_to(data)) or 'train'
        _, content = found.setdefault(name, (data, dict(images=[], annotations=[], categories=[])))
        image = (file.parent / labelled['imagePath'].replace('\\', '/')).resolve()
        if not image.is_file() or not image.is_relative_to(data.resolve()):
            raise PreflightError(f'{file}: imagePath must name an image below {data}, got {labelled["imagePath"]}')
        width, height = size_of(image)
        number = len(content['images']) + 1
        file_name = image.relative_to(data.resolve()).as_posix()
        content['images'].append(dict(id=number, file_name=file_name, width=width, height=height))
        for label, polygons, outlined in objects_of(labelled['shapes'], file):
            category = numbers.setdefault(label, len(numbers) + 1)
            outline = polygons if outlined else []
            box = box_around([value for polygon in polygons for value in polygon])
            ids = dict(id=len(content['annotations']) + 1, image_id=number, category_id=category)
            content['annotations'].append(dict(ids, bbox=box, area=box[2] * box[3], segmentation=outline))
    for _, content in found.values():
        content['categories'] = [dict(id=number, name=label) for label, number in sorted(numbers.items())]
    return found


def objects_of(shapes: list[dict], file: Path) -> Iterator[tuple[str, list[list[float]], bool]]:
    """Yields (label, polygons, whether they outline it) for each object of ``shapes``, as LabelMe has them."""
    groups: dict[tuple, list[dict]] = {}
    for i, shape in enumerate(shapes):
        kind = shape.get('shape_type', 'polygon')
        if kind not in ('polygon', 'rectangle') or len(shape['points']) < (2 if kind == 'rectangle' else 3):
            raise PreflightError(
                f'{file}: a shape must be a polygon of three points or more, or a rectangle, got {kind} of '
                f'{len(shape["points"])} points for {shape["label"]}'
            )
        group = shape.get('group_id')
        groups.setdefault((shape['label'], i if group is None else f'group {group}'), []).append(shape)
    for (label, _), members in groups.items():
        polygons = [[float(value) for point in member['points'] for value in point] for member in members]
        yield label, polygons, all(member.get('shape_type', 'polygon') == 'polygon' for member in members)


def box_around(values: list[float]) -> list[float]:
    """[x, y, width, height] around points x, y, x, y, ..."""
    x, y = values[::2], values[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
