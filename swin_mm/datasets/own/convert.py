"""Converts objects of other tools to COCO's format: LabelMe, YOLO and Pascal VOC.

The last two are read by the library supervision (extra ``own_data``), imported when they are met.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import PreflightError, one_line
from .coco import Part, check, size_of
from .find import role, visible

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
Found = dict[str, tuple[Path, dict[str, Any]]]  # part -> its folder of images, and content in COCO's format


def convert(data: Path, folder: Path) -> tuple[str, dict[str, Part]]:
    """The name of the format of the objects below ``data``, and their parts as of `find_coco`; ('', {}) for none.

    The parts are for `Part.save` to write to ``folder``. Raises PreflightError for files that cannot be read, and if
    supervision is needed and not installed.
    """
    for name, read in (('LabelMe', _read_labelme), ('YOLO', _read_yolo), ('Pascal VOC', _read_voc)):
        found = read(data)
        found.pop('test', None)
        if found and 'train' not in found:
            raise PreflightError(f'{data} has {name} labels to validate, and none to train on')
        if found:
            return name, _aligned(found, folder)
    return '', {}


def _aligned(found: Found, folder: Path) -> dict[str, Part]:
    """Gives all parts one list of classes: those of the file if they agree, or all in alphabetical order."""
    listed = [[category['name'] for category in content['categories']] for _, content in found.values()]
    names = listed[0] if all(names == listed[0] for names in listed) else sorted({n for names in listed for n in names})
    parts = {}
    for name, (images, content) in found.items():
        old = {category['id']: category['name'] for category in content['categories']}
        for annotation in content['annotations']:
            # supervision marks objects in several pieces as crowds, which would not be learnt
            annotation.update(category_id=names.index(old[annotation['category_id']]) + 1, iscrowd=0)
        content['categories'] = [dict(id=i, name=label) for i, label in enumerate(names, 1)]
        check(content, images)
        parts[name] = Part(folder / f'{name}.json', images, content, unwritten=True)
    return parts


def _read_labelme(data: Path) -> Found:
    """LabelMe: a JSON file an image, with polygons and rectangles; pieces of one ``group_id`` are one object."""
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
        for label, polygons, outlined in _objects(labelled['shapes'], file):
            category = numbers.setdefault(label, len(numbers) + 1)
            outline = polygons if outlined else []
            box = _box([value for polygon in polygons for value in polygon])
            ids = dict(id=len(content['annotations']) + 1, image_id=number, category_id=category)
            content['annotations'].append(dict(ids, bbox=box, area=box[2] * box[3], segmentation=outline))
    for _, content in found.values():
        content['categories'] = [dict(id=number, name=label) for label, number in sorted(numbers.items())]
    return found


def _objects(shapes: list[dict], file: Path) -> Iterator[tuple[str, list[list[float]], bool]]:
    """Yields (label, polygons, whether they outline it) for each object of a LabelMe file."""
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


def _box(values: list[float]) -> list[float]:
    """[x, y, width, height] around points x, y, x, y, ..."""
    x, y = values[::2], values[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _read_yolo(data: Path) -> Found:
    """YOLO: a text file an image in a folder labels, images in the folder images beside it, names in a YAML file."""
    if not data.is_dir():
        return {}
    files = [path for ending in ('.yaml', '.yml') for path in visible(data, ending) if 'names' in path.read_text()]
    folders = sorted({path.parent for path in visible(data, '.txt') if 'labels' in path.relative_to(data).parts[:-1]})
    if not files or not folders:
        return {}
    found: Found = {}
    for folder in folders:
        parts = ['images' if part == 'labels' else part for part in folder.relative_to(data).parts]
        images = data.joinpath(*parts)
        if not images.is_dir():
            raise PreflightError(f'YOLO labels in {folder} need their images in {images}, which is not there')
        options = dict(data_yaml_path=str(files[0]))
        _add(found, folder.relative_to(data), images, _by_supervision('from_yolo', images, folder, **options))
    return found


def _read_voc(data: Path) -> Found:
    """Pascal VOC: an XML file an image, the images beside it or in another folder."""
    found: Found = {}
    folders = sorted({path.parent for path in visible(data, '.xml')}) if data.is_dir() else []
    images = {path.with_suffix('') for ending in IMAGES for path in visible(data, ending)} if folders else set()
    for folder in folders:
        stems = [path.stem for path in folder.glob('*.xml')]
        others = sorted({path.parent for path in images}, key=lambda other: (other != folder, str(other)))
        home = next((other for other in others if all(other / stem in images for stem in stems)), None)
        if home is None:
            raise PreflightError(f'{folder} has {len(stems)} XML files, and no folder of {data} has an image for each')
        _add(found, folder.relative_to(data), home, _by_supervision('from_pascal_voc', home, folder))
    return found


def _add(found: Found, folder: Path, images: Path, content: dict[str, Any]) -> None:
    name = role(folder / '_') or 'train'
    if name in found:
        raise PreflightError(f'{images} and {found[name][0]} are both to {name} on: name one with --data FOLDER')
    found[name] = (images, content)


def _by_supervision(read: str, images: Path, labels: Path, **options: str) -> dict[str, Any]:
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise PreflightError(
            f"{labels} needs the package supervision: pip install 'swin-mm[own_data]'; COCO and LabelMe need none"
        ) from error
    try:
        dataset = getattr(supervision.DetectionDataset, read)(str(images), str(labels), **options)
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / 'coco.json'
            dataset.as_coco(annotations_path=str(file))
            return json.loads(file.read_bytes())
    except (ValueError, KeyError, SyntaxError) as error:  # SyntaxError: of XML
        raise PreflightError(f'{labels} cannot be read: {one_line(error)}') from error
