"""Converts objects of other tools to COCO's format: LabelMe, CVAT, YOLO and Pascal VOC.

The last two are read by the library supervision (extra ``own_data``), imported when they are met.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from ...errors import PreflightError, one_line
from .coco import Part, check
from .cvat import read_cvat
from .find import role, visible
from .labelme import Found, read_labelme

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def convert(data: Path, folder: Path) -> tuple[str, dict[str, Part]]:
    """The name of the format of the objects below ``data``, and their parts as of `find_coco`; ('', {}) for none.

    The parts are for `Part.save` to write to ``folder``. Raises PreflightError for files that cannot be read, and if a
    package is needed and not installed.
    """
    for name, read in (('LabelMe', read_labelme), ('CVAT', read_cvat), ('YOLO', _read_yolo), ('Pascal VOC', _read_voc)):
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
