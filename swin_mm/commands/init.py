"""``swin-mm init``: reads a person's own data and writes a config that trains on them.

swin-mm init --data data/cats
"""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..datasets import own
from ..datasets.own.coco import Part, has_mask
from ..datasets.own.labels import LabelPart
from ..errors import PreflightError, shortlist


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the config that ``argv`` asks for and prints what was found; raises PreflightError if it cannot."""
    parser = argparse.ArgumentParser(description='Write a config that trains on your own data')
    parser.add_argument(
        '--data', required=True, help='folder of the data, or an annotation file in COCO format; it is not changed'
    )
    parser.add_argument('--task', choices=['det', 'seg'], help='objects, or pixels (default: what is found, det first)')
    parser.add_argument(
        '--model',
        help='kind of model, such as cascade_mask_rcnn or dino, or the name of a recipe (default: mask_rcnn for '
        'objects with masks, faster_rcnn for those with boxes alone, upernet for label maps)',
    )
    parser.add_argument('--arch', choices=list(own.ARCHES), default='tiny', help='size of the Swin (default: tiny)')
    parser.add_argument('-o', '--out', help='config to write (default: the name of the data, in the working directory)')
    args = parser.parse_args(argv)
    path = write(args.data, args.model, args.arch, args.out, args.task)
    print(f'Next:    swin-mm train {path}')


def write(
    data: str, model: str | None = None, arch: str = 'tiny', out: str | None = None, task: str | None = None
) -> str:
    """Writes a config for ``data`` to ``out``, prints what was found, and gives the path of the config.

    A config that is there already is kept if it says the same; raises PreflightError if it does not.
    """
    folder = Path(data).expanduser()
    if not folder.exists():
        raise PreflightError(f'--data {data} is not there, seen from {Path.cwd()}')
    path = Path(out or f'{re.sub("[^0-9A-Za-z_]+", "_", folder.resolve().stem)}.py')
    command = f'swin-mm init --data {shlex.quote(data)}' + (f' --task {task}' if task else '')
    kind, objects = _find_objects(folder, path) if task != 'seg' else ('', {})
    if objects:
        print(f'Found:   objects in the format of {kind}')
        config = _for_objects(objects, folder, path, model, arch, command)
    elif task != 'det' and folder.is_dir() and (labels := own.find_labels(folder)):
        config = _for_labels(labels, folder, path, model, arch, command)
    else:
        raise PreflightError(
            f'--data {data} has no annotations that are understood: there must be a JSON file in COCO format, with '
            'images, annotations and categories, files of LabelMe, CVAT, YOLO or Pascal VOC, or PNG files of class '
            'indices in a folder whose name holds masks or labels'
        )
    size = f'{config.size[0]} x {config.size[1]}'
    print(f'Config:  {path}, from recipe {config.recipe}, for images of {size} at most')
    print(f'Predict: swin-mm predict IMAGE {path} work_dirs/{path.stem}/{config.last_checkpoint}, once it is trained')
    return str(path)


def _find_objects(data: Path, path: Path) -> tuple[str, dict[str, Part]]:
    """The name of the format and the parts; ('', {}) if there are no objects."""
    objects = own.find_coco(data)
    return ('COCO', objects) if objects else own.convert(data, _beside(path))


def _for_objects(
    found: dict[str, Part], data: Path, path: Path, model: str | None, arch: str, command: str
) -> own.OwnConfig:
    split = 'val' not in found
    parts, classes = own.prepare(found, _beside(path))
    masks = all(has_mask(annotation) for part in parts.values() for annotation in part.content['annotations'])
    recipe = own.choose_recipe(model or ('mask_rcnn' if masks else 'faster_rcnn'), arch)
    folders = [data, *data.resolve().parents] if data.is_dir() else data.resolve().parents
    images = [part.images.resolve() for part in parts.values()]
    root = next(folder for folder in folders if all(image.is_relative_to(folder.resolve()) for image in images))
    config = own.write_detection(recipe, parts, classes, root, f'{command} --model {recipe.stem}')
    _keep_or_write(path, config.text)
    print(f'Objects: {"boxes and masks" if masks else "boxes"} of {len(classes)} classes')
    for name, part in parts.items():
        part.save()
        count = part.count()
        objects = ', '.join(f'{label} {count[label]}' for label in classes)
        print(f'{name.capitalize() + ":":<9}{len(part.content["images"])} images, {part.path}; objects: {objects}')
        if never := [label for label in classes if not count[label]]:
            print(f'         No object in this part of: {", ".join(never)}')
    _say(split)
    return config


def _for_labels(
    parts: dict[str, LabelPart], data: Path, path: Path, model: str | None, arch: str, command: str
) -> own.OwnConfig:
    classes = own.find_classes(data, parts)
    recipe = own.choose_recipe(model or 'upernet', arch)
    lists = _beside(path)
    config = own.write_segmentation(recipe, parts, classes, data, lists, f'{command} --model {recipe.stem}')
    _keep_or_write(path, config.text)
    print(f'Found:   label maps of {len(classes)} classes: {shortlist(classes, 10)}')
    for name, part in parts.items():
        part.save(lists / f'{name}.txt')
        print(f'{name.capitalize() + ":":<9}{len(part.names)} images in {part.images}, label maps in {part.labels}')
    _say(parts['train'].labels == parts['val'].labels)
    return config


def _beside(path: Path) -> Path:
    """The folder for what is made of the data."""
    return path.parent / f'{path.stem}_data'


def _say(split: bool) -> None:
    if split:
        print('         A fifth of the images is set apart for validation, by hashes of names: the same each time')


def _keep_or_write(path: Path, text: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f'.{os.getpid()}')
        scratch.write_text(text)
        scratch.replace(path)
    elif path.read_text() != text:
        raise PreflightError(
            f'{path} is there and says something else: train it with `swin-mm train {path}`, delete it, or write '
            'another with `swin-mm init -o`'
        )
