"""Four made-up pictures in the layout of other data sets: Cityscapes, Pascal VOC, LVIS, COCO's panoptic maps."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from samples.tiny_training import SIZES

SPLITS = {'train': range(4), 'val': range(2)}


def noise(i: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (*SIZES[i], 3), dtype=np.uint8))


def label_map(i: int, classes: int) -> np.ndarray:
    """(H, W) of a picture: 255, which is ignored, above two classes, the last one among them."""
    labels = np.full(SIZES[i], i, dtype=np.uint8)
    labels[20:] = classes - 1
    labels[:5] = 255
    return labels


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_cityscapes(folder: Path) -> Path:
    for split, numbers in SPLITS.items():
        for i in numbers:
            name = f'{split}/aachen/aachen_{i:06}_000019'
            save(noise(i), folder / f'leftImg8bit/{name}_leftImg8bit.png')
            save(Image.fromarray(label_map(i, 19)), folder / f'gtFine/{name}_gtFine_labelTrainIds.png')
            save(Image.fromarray(label_map(i, 19)), folder / f'gtFine/{name}_gtFine_labelIds.png')  # not to be read
    return folder


def write_voc(folder: Path) -> Path:
    for split, numbers in SPLITS.items():
        for i in numbers:
            save(noise(i), folder / f'JPEGImages/2007_{split}{i}.jpg')
            labels = Image.fromarray(label_map(i, 21)).convert('P')
            labels.putpalette([value for k in range(256) for value in (k, 255 - k, 7)])  # as VOC's have colours
            save(labels, folder / f'SegmentationClass/2007_{split}{i}.png')
        file = folder / f'ImageSets/Segmentation/{split}.txt'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('\n'.join(f'2007_{split}{i}' for i in numbers))
    return folder


def annotation(i: int, category: int, number: int) -> dict:
    """A rectangle in picture ``i``."""
    x, y, w, h = 2 + 4 * number, 6, 40, 44
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    box = dict(bbox=[x, y, w, h], area=w * h, segmentation=outline, iscrowd=0)
    return dict(id=10 * i + number + 1, image_id=i, category_id=category, **box)


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lvis(folder: Path) -> Path:
    """All 1203 classes, of which each picture has the first and another one."""
    categories = [dict(id=i, name=f'class_{i}', frequency='rcf'[i % 3], image_count=9) for i in range(1, 1204)]
    for split, numbers in SPLITS.items():
        images, annotations = [], []
        for i in numbers:
            name = f'{split}2017/{i:012}.jpg'
            save(noise(i), folder / name)
            image = dict(id=i, height=SIZES[i][0], width=SIZES[i][1], neg_category_ids=[5])
            address = f'http://images.cocodataset.org/{name}'
            images.append(dict(image, not_exhaustive_category_ids=[7], coco_url=address))
            annotations += [annotation(i, 1, 0), annotation(i, 1200 + i, 1)]
        content = dict(images=images, annotations=annotations, categories=categories)
        write_json(folder / f'annotations/lvis_v1_{split}.json', content)
    return folder


def write_panoptic(folder: Path) -> Path:
    """COCO's 80 things and 53 kinds of stuff: a thing before stuff in each picture, and its box and mask as well."""
    from mmdet.datasets import CocoPanopticDataset

    info = CocoPanopticDataset.METAINFO
    things = info['thing_classes']
    categories = [
        dict(id=i, name=name, isthing=int(name in things), color=[i, i, i]) for i, name in enumerate(info['classes'], 1)
    ]
    for split, numbers in SPLITS.items():
        images, objects, segments = [], [], []
        for i in numbers:
            save(noise(i), folder / f'{split}2017/{i:012}.jpg')
            images.append(dict(id=i, height=SIZES[i][0], width=SIZES[i][1], file_name=f'{i:012}.jpg'))
            objects.append(annotation(i, 1 + i, 0))
            segments.append(save_segments(folder / f'annotations/panoptic_{split}2017/{i:012}.png', objects[-1]))
        instances = dict(images=images, annotations=objects, categories=categories[: len(things)])
        write_json(folder / f'annotations/instances_{split}2017.json', instances)
        panoptic = dict(images=images, annotations=segments, categories=categories)
        write_json(folder / f'annotations/panoptic_{split}2017.json', panoptic)
    return folder


def save_segments(path: Path, thing: dict) -> dict:
    """Writes a map of segment 300, ``thing``, before segment 7, the last kind of stuff; gives what COCO says of it."""
    height, width = SIZES[thing['image_id']]
    x, y, w, h = thing['bbox']
    ids = np.full((height, width), 7)
    ids[y : y + h, x : x + w] = 300
    # An id is R + 256 G + 65536 B.
    save(Image.fromarray(np.stack([ids % 256, ids // 256, ids * 0], -1).astype(np.uint8)), path)
    whole = dict(bbox=[0, 0, width, height], area=int((ids == 7).sum()))
    described = [
        dict(id=300, category_id=thing['category_id'], iscrowd=0, bbox=thing['bbox'], area=int((ids == 300).sum())),
        dict(id=7, category_id=133, iscrowd=0, **whole),
    ]
    return dict(image_id=thing['image_id'], file_name=path.name, segments_info=described)
