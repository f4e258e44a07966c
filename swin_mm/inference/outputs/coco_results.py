"""COCO's format of results: one file for all images."""

import json
from collections.abc import Iterator
from pathlib import Path

from .output import Item, Job, Output


class CocoResults(Output):
    """``coco/predictions.json``, a list of all objects, and ``coco/images.json``, which says what their ids mean.

    An image has the id of its place among the inputs, from 1, a class its index plus 1. All objects are kept: the
    score is for whoever evaluates. A segmentation has a mask a class. Both files are JSON once the run has ended.
    """

    place = 'coco'

    def __init__(self, job: Job):
        super().__init__(job)
        categories = json.dumps([dict(id=i, name=name) for i, name in enumerate(job.classes, 1)])
        self.predictions = self.grow('predictions.json', '[\n', ',\n', '\n]\n')
        self.images = self.grow('images.json', f'{{"categories": {categories},\n"images": [\n', ',\n', '\n]}\n')

    def write(self, item: Item) -> Iterator[Path]:
        """Adds the image and its objects."""
        self.predictions.add([json.dumps(record) for record in item.found.to_coco(item.number)])
        height, width = item.pixels.shape[:2]
        self.images.add([json.dumps(dict(id=item.number, file_name=item.source, width=width, height=height))])
        yield from ()
