"""The embedded shapes as people bring their own data: under other names, in layouts of other tools."""

import json
import shutil
from pathlib import Path

from swin_mm.datasets.shapes import write_shapes

NAMES = ('coin', 'tile', 'roof', 'badge', 'plus sign')  # circle, square, triangle, star, cross
IDS = (7, 3, 11, 2, 40)  # neither from 0 on nor in order


def write_coco(folder: Path, train: int = 6, val: int = 2, boxes_only: bool = False) -> Path:
    """``folder`` as Roboflow exports COCO: images beside train/_annotations.coco.json, and in valid/ the same.

    The first class is a group without objects. ``val=0``: one part only, images/ and labels.json.
    """
    shapes = write_shapes(folder.parent / f'{folder.name}-shapes', train=train, val=max(val, 1))
    for part, name in (('train', 'train' if val else 'images'), ('val', 'valid'))[: 2 if val else 1]:
        shutil.copytree(shapes / part, folder / name)
        content = json.loads((shapes / f'annotations/instances_{part}.json').read_text())
        content['annotations'] = [found for found in content['annotations'] if not found['iscrowd']]
        for annotation in content['annotations']:
            annotation['category_id'] = IDS[annotation['category_id'] - 1]
            if boxes_only:
                annotation['segmentation'] = []
        categories = [dict(id=i, name=class_name) for i, class_name in zip(IDS, NAMES, strict=True)]
        content['categories'] = [dict(id=0, name='shapes', supercategory='none'), *categories]
        file = folder / name / '_annotations.coco.json' if val else folder / 'labels.json'
        file.write_text(json.dumps(content))
    return folder


def write_labels(folder: Path, train: int = 6, val: int = 0, rest: str = '.png') -> Path:
    """``folder`` with images/ and masks/, with train/ and val/ in both if there is a ``val``, and classes.txt.

    The label map of image NAME.jpg is NAME + ``rest``.
    """
    shapes = write_shapes(folder.parent / f'{folder.name}-shapes', train=train, val=max(val, 1))
    for part in ('train', 'val') if val else ('train',):
        inner = part if val else ''
        shutil.copytree(shapes / part, folder / 'images' / inner)
        (folder / 'masks' / inner).mkdir(parents=True)
        for file in (shapes / 'semantic' / part).iterdir():
            shutil.copy(file, folder / 'masks' / inner / f'{file.stem}{rest}')
    (folder / 'classes.txt').write_text('\n'.join(('ground', *NAMES)))
    return folder
