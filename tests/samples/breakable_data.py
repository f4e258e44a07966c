"""A small whole data set in COCO's format, to be broken in one way at a time, and a config that reads it."""

import copy
import json
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

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
