"""Checks made-up data of COCO's size, ``python big_data.py FOLDER``, and prints time and peak memory as JSON.

118,000 images and 860,000 objects, as COCO's training set has them, with polygons of 40 numbers. The images are three
files under 118,000 names.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image
from samples.breakable_data import settings

from swin_mm.datasets.checks import check_data

IMAGES, OBJECTS, CLASSES = 118_000, 860_000, 80
WIDTH, HEIGHT = 640, 480
LINKS = 50_000  # a file system allows no more than 65,000 names of a file


def write(folder: Path) -> Config:
    """Writes the data; gives a config that trains on them."""
    random = np.random.default_rng(0)
    (folder / 'train').mkdir(parents=True)
    for i in range(IMAGES):
        path, first = folder / f'train/{i}.jpg', i - i % LINKS
        if i == first:
            Image.fromarray(random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
        else:
            os.link(folder / f'train/{first}.jpg', path)
    with open(folder / 'train.json', 'w') as file:
        categories = [dict(id=i + 1, name=f'class {i}') for i in range(CLASSES)]
        images = [dict(id=i, file_name=f'{i}.jpg', width=WIDTH, height=HEIGHT) for i in range(IMAGES)]
        file.write(f'{{"categories": {json.dumps(categories)}, "images": {json.dumps(images)}, "annotations": [')
        for start in range(0, OBJECTS, 10_000):
            rows = [_object(random, i) for i in range(start, min(start + 10_000, OBJECTS))]
            file.write((',' if start else '') + json.dumps(rows)[1:-1])
        file.write(']}')
    cfg = settings(folder)
    cfg.train_dataloader.dataset.metainfo.classes = [row['name'] for row in categories]
    cfg.model.roi_head = dict(bbox_head=dict(num_classes=CLASSES))
    return cfg


def _object(random: np.random.Generator, i: int) -> dict:
    x, y = random.integers(0, (WIDTH - 100, HEIGHT - 100)).tolist()
    corners = (random.random((20, 2)) * 100 + (x, y)).round(2)
    box = dict(bbox=[x, y, 100, 100], area=5012.34, iscrowd=0)
    ids = dict(id=i, image_id=i % IMAGES, category_id=i % CLASSES + 1)
    return dict(segmentation=[corners.ravel().tolist()], **box, **ids)


if __name__ == '__main__':
    target = Path(sys.argv[1])
    made = write(target)
    start, start_cpu = time.perf_counter(), time.process_time()
    found = check_data(made, ['train'])
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = (target / 'train.json').stat().st_size
    report = dict(found.as_json(), seconds=seconds, cpu_seconds=cpu_seconds, peak=peak * 1024, bytes=size)
    print(json.dumps(report))
