"""A small whole data set in COCO's format, a config that reads it, and every way to break it."""

import copy
import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from samples.odd_images import turned

CLASSES = ('cat', 'dog')
WIDTH, HEIGHT = 64, 48
IMAGES = 12


def annotations(first_id: int) -> dict:
    """A cat and a dog in every image, with masks; category ids have a gap."""
    images, objects = [], []
    for i in range(IMAGES):
        images.append(dict(id=first_id + i, file_name=f'{first_id + i}.png', width=WIDTH, height=HEIGHT))
        for category, x in ((1, 4), (3, 34)):
            box = [x, 6 + i, 20, 16]
            corners = [x, 6 + i, x + 20, 6 + i, x + 20, 22 + i, x, 22 + i]
            objects.append(
                dict(id=len(objects) + 1, image_id=first_id + i, category_id=category, bbox=box, area=320)
                | dict(iscrowd=0, segmentation=[corners])
            )
    categories = [dict(id=1, name='cat'), dict(id=3, name='dog')]
    return dict(images=images, annotations=objects, categories=categories)


def settings(root: Path) -> Config:
    """What a detection config has of data and heads; the data are those of `OwnData`."""

    def loader(split: str, **more) -> dict:
        files = dict(data_root=f'{root}/', ann_file=f'{split}.json', data_prefix=dict(img=f'{split}/'))
        steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
        metainfo = dict(classes=CLASSES)
        return dict(dataset=dict(type='CocoDataset', metainfo=metainfo, pipeline=steps, **files, **more))

    heads = dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2))
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(rpn_head=dict(num_classes=1), roi_head=heads),
            train_dataloader=loader('train'),
            val_dataloader=loader('val', test_mode=True),
            test_dataloader=loader('val', test_mode=True),
        )
    )


class OwnData:
    """Training and validation data in memory, as ``train`` and ``val``; `write` puts them on the disk."""

    def __init__(self, root: Path):
        self.root = root
        self.train, self.val = annotations(100), annotations(500)
        self.cfg = settings(root)
        random = np.random.default_rng(0)
        for split, content in (('train', self.train), ('val', self.val)):
            (root / split).mkdir()
            for image in content['images']:
                pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / image['file_name'])

    @property
    def dataset(self) -> dict:
        """The settings of the training set."""
        return self.cfg.train_dataloader.dataset

    @property
    def first(self) -> dict:
        """The first annotation of the training set."""
        return self.train['annotations'][0]

    def image(self, i: int = 0) -> Path:
        """The file of a training image."""
        return self.root / 'train' / self.train['images'][i]['file_name']

    def repeat(self, key: str, **changes) -> None:
        """Adds a copy of the first entry of ``key`` to the training set."""
        self.train[key].append(copy.deepcopy(self.train[key][0]) | changes)

    def write(self) -> Config:
        """Writes the annotations, where a test has not; gives the config."""
        for split, content in (('train', self.train), ('val', self.val)):
            if not (self.root / f'{split}.json').exists():
                (self.root / f'{split}.json').write_text(json.dumps(content))
        return self.cfg


def change_classes(own: OwnData, classes) -> None:
    for loop in ('train', 'val', 'test'):
        own.cfg[f'{loop}_dataloader'].dataset.metainfo = dict(classes=classes)


def truncate(own: OwnData) -> None:
    own.image().write_bytes(own.image().read_bytes()[:20])


def turn(own: OwnData) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    own.image().write_bytes(turned(Image.fromarray(pixels), 6))


def copy_image(own: OwnData) -> None:
    shutil.copy(own.image(), own.root / 'val' / own.val['images'][0]['file_name'])


def all_objects(own: OwnData, **changes) -> None:
    for item in own.train['annotations']:
        item.update(changes)


def as_corners(own: OwnData) -> None:
    """The most common mistake of those who write annotations: (x1, y1, x2, y2) for (x, y, width, height)."""
    for item in own.train['annotations']:
        x, y, width, height = item['bbox']
        item['bbox'] = [x, y, x + width, y + height]


def write_json(own: OwnData, text: str) -> None:
    (own.root / 'train.json').write_text(text)


def rle(height: int, width: int) -> dict:
    mask = np.zeros((height, width), dtype=np.uint8, order='F')
    mask[6:22, 4:24] = 1
    coded = coco_mask.encode(mask)
    return dict(size=coded['size'], counts=coded['counts'].decode())


def del_objects(own: OwnData, count: int) -> None:
    del own.train['annotations'][: 2 * count : 2]


# (the finding, how to break the data)
ERRORS = {
    'names in capitals': ('class-names', lambda own: change_classes(own, ('Cat', 'Dog'))),
    'one name misspelt': ('class-names', lambda own: change_classes(own, ('cat', 'dogs'))),
    'names of COCO itself': ('class-names', lambda own: own.dataset.pop('metainfo')),
    'names in another order': ('class-order', lambda own: change_classes(own, ('dog', 'cat'))),
    'a string for a tuple': ('classes-string', lambda own: change_classes(own, ('cat'))),
    'a name twice in the config': ('duplicate-class', lambda own: change_classes(own, ('cat', 'dog', 'cat'))),
    'a name twice in the file': ('duplicate-class', lambda own: own.repeat('categories', id=4)),
    'a category id twice': ('duplicate-category', lambda own: own.repeat('categories', name='bird')),
    'a category without a name': ('category-keys', lambda own: own.train['categories'][0].pop('name')),
    'a box head of 80 classes': ('num-classes', lambda own: own.cfg.model.roi_head.bbox_head.update(num_classes=80)),
    'a mask head of 80 classes': ('num-classes', lambda own: own.cfg.model.roi_head.mask_head.update(num_classes=80)),
    'an image that is gone': ('image-missing', lambda own: own.image().unlink()),
    'an empty image': ('image-broken', lambda own: own.image().write_bytes(b'')),
    'a file that is no image': ('image-broken', lambda own: own.image().write_text('<html>404</html>')),
    'half a header': ('image-broken', truncate),
    'an image of another size': ('image-size', lambda own: Image.new('RGB', (80, 48)).save(own.image())),
    'an image turned by EXIF': ('image-turned', turn),
    'an image without a size': ('image-keys', lambda own: own.train['images'][0].pop('width')),
    'an image of astronomic size': ('image-keys', lambda own: own.train['images'][0].update(width=10**400)),
    'an image without a name': ('image-keys', lambda own: own.train['images'][0].pop('file_name')),
    'a box beyond the border': ('box-outside', lambda own: own.first.update(bbox=[50, 6, 20, 16])),
    'a box left of the image': ('box-outside', lambda own: own.first.update(bbox=[-5, 6, 20, 16])),
    'corners for sizes': ('box-outside', as_corners),
    'a box without a width': ('box-empty', lambda own: own.first.update(bbox=[4, 6, 0, 16])),
    'a negative height': ('box-empty', lambda own: own.first.update(bbox=[4, 6, 20, -16])),
    'an area of zero': ('box-empty', lambda own: own.first.update(area=0)),
    'a box of NaN': ('box-nan', lambda own: own.first.update(bbox=[4, 6, float('nan'), 16])),
    'an infinite box': ('box-nan', lambda own: own.first.update(bbox=[4, 6, float('inf'), 16])),
    'a box of three numbers': ('annotation-keys', lambda own: own.first.update(bbox=[4, 6, 20])),
    'a box of strings': ('annotation-keys', lambda own: own.first.update(bbox=['4', '6', '20', '16'])),
    'a box of an astronomic size': ('annotation-keys', lambda own: own.first.update(bbox=[4, 6, 10**400, 16])),
    'no box': ('annotation-keys', lambda own: own.first.pop('bbox')),
    'no area': ('annotation-keys', lambda own: own.first.pop('area')),
    'no category': ('annotation-keys', lambda own: own.first.pop('category_id')),
    'an annotation that is a list': ('annotation-keys', lambda own: own.train['annotations'].append([1, 2])),
    'an odd polygon': ('mask-broken', lambda own: own.first.update(segmentation=[[4, 6, 24, 6, 24, 22, 4]])),
    'a polygon of two points': ('mask-broken', lambda own: own.first.update(segmentation=[[4, 6, 24, 6]])),
    'a polygon of NaN': ('mask-broken', lambda own: own.first.update(segmentation=[[4, 6, float('nan'), 6, 9, 9]])),
    'a bare polygon': ('mask-broken', lambda own: own.first.update(segmentation=[4, 6, 24, 6, 24, 22])),
    'run lengths cut short': (
        'mask-broken',
        lambda own: own.first.update(segmentation=dict(size=[HEIGHT, WIDTH], counts=[100, 20])),
    ),
    'run lengths of another size': ('mask-size', lambda own: own.first.update(segmentation=rle(60, 80))),
    'no mask': ('mask-missing', lambda own: own.first.pop('segmentation')),
    'a mask beside its box': ('mask-outside', lambda own: own.first.update(bbox=[4, 30, 20, 16])),
    'an image id twice': ('duplicate-image-id', lambda own: own.repeat('images', file_name='101.png')),
    'an annotation id twice': ('duplicate-id', lambda own: own.repeat('annotations')),
    'an annotation of no image': ('unknown-image', lambda own: own.first.update(image_id=999)),
    'an annotation of no category': ('unknown-category', lambda own: own.first.update(category_id=2)),
    'no images': ('empty', lambda own: own.train.update(images=[])),
    'no objects': ('empty', lambda own: own.train.update(annotations=[])),
    'crowds alone': ('empty', lambda own: all_objects(own, iscrowd=1)),
    'no annotations': ('annotation-file', lambda own: own.train.pop('annotations')),
    'no file': ('annotation-file', lambda own: own.dataset.update(ann_file='other.json')),
    'half a file': ('annotation-file', lambda own: write_json(own, '{"images": [')),
    'a list for an object': ('annotation-file', lambda own: write_json(own, '[]')),
    'a picture for annotations': ('annotation-file', lambda own: shutil.copy(own.image(), own.root / 'train.json')),
}
OTHERS = {
    'a class of nine objects': ('warning', 'few-objects', lambda own: del_objects(own, 3)),
    'training on the validation images': (
        'warning',
        'overlap',
        lambda own: own.cfg.val_dataloader.dataset.update(ann_file='train.json', data_prefix=dict(img='train/')),
    ),
    'a copy of a training image': ('warning', 'overlap-content', copy_image),
    'a file listed twice': ('warning', 'duplicate-file', lambda own: own.repeat('images', id=999)),
    'a category that is not used': (
        'note',
        'unused-categories',
        lambda own: own.repeat('categories', id=4, name='cow'),
    ),
    'a crowd': ('note', 'crowd', lambda own: own.first.update(iscrowd=1)),
    'gaps in the ids': ('note', 'category-gaps', lambda own: None),
    'a data set of another kind': ('note', 'not-checked', lambda own: own.dataset.update(type='CocoPanopticDataset')),
}


def scrambled(content: dict, random: Random) -> dict:
    """``content`` with two values, anywhere in it, replaced by strange ones."""
    for *path, last in random.sample([*_places(content)], 2):
        holder = content
        for key in path:
            holder = holder[key] if isinstance(holder, list | dict) and holder else {}
        if holder:
            holder[last] = random.choice([None, -1, 0, 'x', '', [], {}, True, 10**400, 1e-3, float('nan'), [[1]]])
    return content


def _places(value, where=()):
    """Every place in nested lists and dicts."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield *where, key
        yield from _places(inner, (*where, key))
