"""Reads exports of CVAT, 'CVAT for images 1.1': an XML file for many images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import PreflightError, one_line
from .find import role, visible
from .labelme import Found, box_around, objects_of

HEAD = 4096  # bytes; the root element of an export is in them


def read_cvat(data: Path) -> Found:
    """Polygons, boxes and masks of CVAT below ``data``; polygons of one ``group_id`` are one object.

    The subset that a project gives an image tells its part, or else the names of the file and its folders. The layout
    is that of https://docs.cvat.ai/docs/manual/advanced/xml_format/.
    """
    found: Found = {}
    for file in visible(data, '.xml') if data.is_dir() else []:
        with file.open('rb') as opened:
            if b'<annotations' not in opened.read(HEAD):
                continue
        root = _parse(file)
        if root.find('track') is not None:
            raise PreflightError(f"{file} has tracks of a video: export it as 'CVAT for images 1.1'")
        listed = [label.findtext('name') for label in root.iterfind('meta//labels/label')]
        for image in root.iterfind('image'):
            name = role(Path(image.get('subset', ''))) or role(file.relative_to(data)) or 'train'
            categories = [dict(id=i, name=label) for i, label in enumerate(listed, 1)]
            _, content = found.setdefault(name, (data, dict(images=[], annotations=[], categories=categories)))
            try:
                _add_image(image, file, data, content)
            except (AttributeError, TypeError, ValueError) as error:  # attributes are missing, or no numbers
                raise PreflightError(f'{file}: image {image.get("name")} cannot be read: {one_line(error)}') from error
    return found


def _parse(file: Path) -> Any:
    try:
        from defusedxml import DefusedXmlException, ElementTree
    except ModuleNotFoundError as error:
        raise PreflightError(f"{file} needs the package defusedxml: pip install 'swin-mm[own_data]'") from error
    try:
        return ElementTree.parse(file, forbid_dtd=True).getroot()
    except (ElementTree.ParseError, DefusedXmlException) as error:  # the latter: entities that blow up
        raise PreflightError(f'{file} cannot be read as XML: {one_line(error)}') from error


def _add_image(image: Any, file: Path, data: Path, content: dict[str, Any]) -> None:
    name, size = image.get('name', ''), (int(image.get('width')), int(image.get('height')))
    path = next((path for path in _places(image, file.parent) if path.is_file()), None)
    if path is None or not path.resolve().is_relative_to(data.resolve()):
        raise PreflightError(f'{file}: image {name} is neither beside it nor in its folder images: export with images')
    file_name = path.resolve().relative_to(data.resolve()).as_posix()
    number = len(content['images']) + 1
    content['images'].append(dict(id=number, file_name=file_name, width=size[0], height=size[1]))
    numbers = {category['name']: category['id'] for category in content['categories']}
    for label, segmentation, box, area in _objects(image, size, file):
        if label not in numbers:
            numbers[label] = len(numbers) + 1
            content['categories'].append(dict(id=numbers[label], name=label))
        ids = dict(id=len(content['annotations']) + 1, image_id=number, category_id=numbers[label])
        content['annotations'].append(dict(ids, bbox=box, area=area, segmentation=segmentation))


def _places(image: Any, folder: Path) -> Iterator[Path]:
    """Where an image may be: a task has it in images/, a project in images/SUBSET/."""
    name = image.get('name', '')
    yield from (folder / 'images' / image.get('subset', '') / name, folder / 'images' / name, folder / name)


def _objects(image: Any, size: tuple[int, int], file: Path) -> Iterator[tuple[str, Any, list[float], float]]:
    """Yields (label, segmentation, box, area) of each object of an image."""
    shapes = []
    for shape in image:
        if shape.tag == 'mask':
            yield shape.get('label'), *_mask(shape, size)
        elif shape.tag != 'tag':  # which is of the whole image
            shapes.append(_as_labelme(shape))
    for label, polygons, outlined in objects_of(shapes, file):
        box = box_around([value for polygon in polygons for value in polygon])
        yield label, polygons if outlined else [], box, box[2] * box[3]


def _as_labelme(shape: Any) -> dict[str, Any]:
    if float(shape.get('rotation', 0)):
        raise ValueError(f'a box of {shape.get("label")} is rotated: draw a polygon around the object')
    if shape.tag == 'box':
        points = [[float(shape.get(x)), float(shape.get(y))] for x, y in (('xtl', 'ytl'), ('xbr', 'ybr'))]
    else:
        points = [[float(value) for value in point.split(',')] for point in shape.get('points', '').split(';') if point]
    group = int(shape.get('group_id', 0)) or None  # 0: it is in no group
    kind = 'rectangle' if shape.tag == 'box' else shape.tag
    return dict(label=shape.get('label'), points=points, shape_type=kind, group_id=group)


def _mask(shape: Any, size: tuple[int, int]) -> tuple[dict, list[float], float]:
    """Run lengths as COCO has them, down the columns of the image; CVAT's go along the rows of the mask's own box."""
    runs = [int(value) for value in shape.get('rle').split(',')]
    left, top, width, height = (int(shape.get(key)) for key in ('left', 'top', 'width', 'height'))
    if sum(runs) != width * height or left + width > size[0] or top + height > size[1]:
        raise ValueError(f'a mask of {shape.get("label")} is not of its own size, or not in its image')
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    pixels = np.zeros(size[::-1], dtype=bool)
    pixels[top : top + height, left : left + width] = inside
    rows, columns = np.nonzero(pixels)
    if not rows.size:
        raise ValueError(f'a mask of {shape.get("label")} is empty')
    flat = pixels.ravel(order='F')
    counts = np.diff([0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1), flat.size]).tolist()
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    coded = dict(size=list(size[::-1]), counts=[0, *counts] if flat[0] else counts)
    return coded, [int(value) for value in box], int(pixels.sum())
