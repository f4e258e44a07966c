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


def write_yolo(folder: Path, coco: dict, images: Path, boxes_only: bool = False) -> None:
    """The content of a COCO file as YOLO has it: ``folder``/{images,labels}, a line an object of one piece."""
    shutil.copytree(images, folder / 'images', ignore=shutil.ignore_patterns('*.json'))
    (folder / 'labels').mkdir()
    classes = [category['id'] for category in coco['categories']]
    for image in coco['images']:
        lines = []
        for found in (a for a in coco['annotations'] if a['image_id'] == image['id']):
            x, y, w, h = found['bbox']
            box, side = [x + w / 2, y + h / 2, w, h], (image['width'], image['height'])
            numbers = box if boxes_only else found['segmentation'][0]
            shares = [value / side[i % 2] for i, value in enumerate(numbers)]
            lines.append(' '.join(map(str, [classes.index(found['category_id']), *shares])))
        (folder / 'labels' / Path(image['file_name']).with_suffix('.txt')).write_text('\n'.join(lines))


def write_voc(folder: Path, coco: dict, images: Path) -> None:
    """The same as Pascal VOC has it: ``folder``/{JPEGImages,Annotations}, boxes alone, in pixels from 1 on."""
    shutil.copytree(images, folder / 'JPEGImages', ignore=shutil.ignore_patterns('*.json'))
    (folder / 'Annotations').mkdir()
    names = {category['id']: category['name'] for category in coco['categories']}
    for image in coco['images']:
        objects = ''
        for found in (a for a in coco['annotations'] if a['image_id'] == image['id']):
            x, y, w, h = found['bbox']
            box = dict(xmin=x + 1, ymin=y + 1, xmax=x + w, ymax=y + h)
            corners = ''.join(f'<{key}>{value}</{key}>' for key, value in box.items())
            objects += f'<object><name>{names[found["category_id"]]}</name><bndbox>{corners}</bndbox></object>'
        text = f'<annotation><filename>{image["file_name"]}</filename>{objects}</annotation>'
        (folder / 'Annotations' / Path(image['file_name']).with_suffix('.xml')).write_text(text)


def write_labelme(folder: Path, coco: dict, images: Path) -> None:
    """The same as LabelMe has it: a JSON file beside each image; polygons of one object share a group."""
    shutil.copytree(images, folder, ignore=shutil.ignore_patterns('*.json'))
    names = {category['id']: category['name'] for category in coco['categories']}
    for image in coco['images']:
        shapes = [
            dict(
                label=names[found['category_id']],
                points=list(zip(polygon[::2], polygon[1::2], strict=True)),
                shape_type='polygon',
                group_id=found['id'],
            )
            for found in coco['annotations']
            if found['image_id'] == image['id']
            for polygon in found['segmentation']
        ]
        content = dict(shapes=shapes, imagePath=image['file_name'])
        (folder / Path(image['file_name']).with_suffix('.json')).write_text(json.dumps(content))


def write_cvat(folder: Path, coco: dict, images: Path, project: bool = False) -> None:
    """The same as 'CVAT for images 1.1' has it: annotations.xml and images/; polygons of one object share a group.

    As the export of a ``project``, images have subsets, Train and Validation, and a folder for each.
    """
    names = {category['id']: category['name'] for category in coco['categories']}
    labels = ''.join(f'<label><name>{name}</name><attributes></attributes></label>' for name in names.values())
    text = ''
    for i, image in enumerate(coco['images']):
        subset = ('Validation' if i % 4 == 0 else 'Train') if project else ''
        (folder / 'images' / subset).mkdir(parents=True, exist_ok=True)
        shutil.copy(images / image['file_name'], folder / 'images' / subset)
        shapes = ''
        for found in (a for a in coco['annotations'] if a['image_id'] == image['id']):
            for polygon in found['segmentation']:
                points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in zip(polygon[::2], polygon[1::2], strict=True))
                shapes += (
                    f'<polygon label="{names[found["category_id"]]}" source="manual" occluded="0" points="{points}" '
                    f'z_order="0" group_id="{found["id"]}"><attribute name="seen">yes</attribute></polygon>'
                )
        inner = f'{shapes}<tag label="good" source="manual"></tag>'
        subset_of = f'subset="{subset}" ' if subset else ''
        size = f'width="{image["width"]}" height="{image["height"]}"'
        text += f'<image id="{i}" name="{image["file_name"]}" {subset_of}{size}>{inner}</image>'
    kind = 'project' if project else 'task'
    meta = f'<meta><{kind}><id>4</id><name>toys</name><labels>{labels}</labels></{kind}></meta>'
    (folder / 'annotations.xml').write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{text}</annotations>'
    )
