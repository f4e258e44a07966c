"""A few images with label maps, to be broken in one way at a time, and a config that reads them."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

CLASSES = ('ground', 'roof', 'tree')
HEIGHT, WIDTH, IMAGES = 12, 16, 4


class Maps:
    """Images and label maps in folders, and a config that reads them."""

    def __init__(self, root: Path):
        random = np.random.default_rng(0)
        self.root = root
        for split in ('train', 'val'):
            for kind in ('images', 'labels'):
                (root / kind / split).mkdir(parents=True)
            for i in range(IMAGES):
                pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / f'images/{split}/{i}.jpg')
                labels = random.choice([0, 1, 2, 255], (HEIGHT, WIDTH)).astype(np.uint8)
                Image.fromarray(labels).save(root / f'labels/{split}/{i}.png')
        heads = dict(decode_head=dict(num_classes=3), auxiliary_head=dict(num_classes=3))
        loaders = {f'{loop}_dataloader': dict(dataset=self.dataset(loop)) for loop in ('train', 'val')}
        self.cfg = Config(
            dict(default_scope='mmseg', model=heads, test_dataloader=loaders['val_dataloader'], **loaders)
        )

    def dataset(self, split: str) -> dict:
        prefix = dict(img_path=f'images/{split}', seg_map_path=f'labels/{split}')
        steps = [dict(type='LoadImageFromFile'), dict(type='swin_mm.LoadLabels', num_classes=3)]
        metainfo = dict(classes=CLASSES, palette=[[i, i, i] for i in range(3)])
        files = dict(data_root=str(self.root), data_prefix=prefix)
        return dict(type='BaseSegDataset', metainfo=metainfo, pipeline=steps, **files)

    @property
    def label(self) -> Path:
        """A label file of the training set."""
        return self.root / 'labels/train/1.png'

    def save(self, pixels: np.ndarray, name: str | None = None) -> None:
        Image.fromarray(pixels).save(self.root / 'labels/train' / (name or self.label.name))
