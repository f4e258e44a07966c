"""``swin-mm init``: reads a person's own data and writes a config that trains on them.

swin-mm init --data data/cats
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..datasets import own
from ..datasets.own.coco import Part, has_mask
from ..errors import PreflightError


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the config that ``argv`` asks for and prints what was found; raises PreflightError if it cannot."""
    parser = argparse.ArgumentParser(description='Write a config that trains on your own data')
    parser.add_argument('--data', required=True, help='folder of the data, or annotation file, in COCO format')
    parser.add_argument(
        '--model',
        help='kind of model, such as cascade_mask_rcnn or dino, or the name of a recipe (default: mask_rcnn for data '
        'with masks, else faster_rcnn)',
    )
    parser.add_argument('--arch', choices=list(own.ARCHES), default='tiny', help='size of the Swin (default: tiny)')
    parser.add_argument('-o', '--out', help='config to write (default: the name of the data, in the working directory)')
    args = parser.parse_args(argv)
    path = write(args.data, args.model, args.arch, args.out)
    print(f'Train:   swin-mm train {path}')


def write(data: str, model: str | None = None, arch: str = 'tiny', out: str | None = None) -> str:
    """Writes a config for ``data`` to ``out``, prints what was found, and gives the path of the config.

    A config that is there already is kept if it says the same; raises PreflightError if it does not.
    """
    folder = Path(data).expanduser()
    if not folder.exists():
        raise PreflightError(f'--data {data} is not there, seen from {Path.cwd()}')
    path = Path(out or f'{re.sub("[^0-9A-Za-z_]+", "_", folder.resolve().stem)}.py')
    found = own.find_coco(folder)
    if not found:
        raise PreflightError(
            f'--data {data} has no annotations that are understood: there must be a JSON file in COCO format, with '
            'images, annotations and categories'
        )
    parts, classes = own.prepare(found, path.parent / f'{path.stem}_data')
    masks = all(has_mask(annotation) for part in parts.values() for annotation in part.content['annotations'])
    recipe = own.choose_recipe(model or ('mask_rcnn' if masks else 'faster_rcnn'), arch)
    root = folder if folder.is_dir() else folder.parent
    config = own.write_detection(recipe, parts, classes, root, f'swin-mm init --data {data} --model {recipe.stem}')
    _keep_or_write(path, config.text)
    for part in parts.values():
        part.save()
    _print(parts, classes, masks, split='val' not in found)
    size = f'{config.size[0]} x {config.size[1]}'
    print(f'Config:  {path}, from recipe {config.recipe}, for images of {size} at most')
    print(f'Predict: swin-mm predict IMAGE {path} work_dirs/{path.stem}/{config.last_checkpoint}, once it is trained')
    return str(path)


def _print(parts: dict[str, Part], classes: list[str], masks: bool, split: bool) -> None:
    kinds = 'boxes and masks' if masks else 'boxes'
    print(f'Found:   COCO annotations with {kinds} of {len(classes)} classes' + (', in one file' if split else ''))
    for name, part in parts.items():
        count = part.count()
        objects = ', '.join(f'{label} {count[label]}' for label in classes)
        print(f'{name.capitalize() + ":":<9}{len(part.content["images"])} images, {part.path}; objects: {objects}')
        if never := [label for label in classes if not count[label]]:
            print(f'         No object to {name} on: {", ".join(never)}')
    if split:
        print('         Every fifth image is set apart for validation, by a hash of its name: the same ones each time')


def _keep_or_write(path: Path, text: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f'.{os.getpid()}')
        scratch.write_text(text)
        scratch.replace(path)  # at once: other ranks of `train --data` write it too
    elif path.read_text() != text:
        raise PreflightError(
            f'{path} is there and says something else: train it with `swin-mm train {path}`, delete it, or name '
            'another with -o'
        )
