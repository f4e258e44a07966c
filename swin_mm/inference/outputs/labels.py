"""Labels to correct by hand and to train on: YOLO's and LabelMe's."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..conversions import outlines
from ..results import FoundObject
from .output import Item, Job, Output


class Yolo(Output):
    """``yolo/labels/NAME.txt``: a line an object that scores enough, and ``yolo/data.yaml`` with the names.

    A line is the index of the class and a box, or the outline of the largest piece of the mask, in shares of the
    image's width and height. YOLO looks for the images in ``yolo/images``, where no copies are made.
    """

    place = 'yolo/labels'
    tasks = ('detection',)

    def __init__(self, job: Job):
        super().__init__(job)
        names = ''.join(f'  {i}: {json.dumps(name)}\n' for i, name in enumerate(job.classes))
        (self.folder.parent / 'data.yaml').write_text(f'path: .\ntrain: images\nval: images\nnames:\n{names}')

    def write(self, item: Item) -> Iterator[Path]:
        """Writes an empty file for an image without objects."""
        size = item.pixels.shape[1::-1]
        lines = []
        for one in item.found.filter(self.job.score):
            if one.mask is None:
                numbers: Any = _centred(one.box, size)
            elif pieces := outlines(one.mask):
                numbers = pieces[0] / size
            else:
                continue
            lines.append(' '.join([str(one.label), *(f'{value:.6g}' for value in np.ravel(numbers))]))
        path = self.path(item, '.txt')
        path.write_text(''.join(f'{line}\n' for line in lines))
        yield path


class LabelMe(Output):
    """``labelme/NAME.json`` with the objects that score enough, and the image beside it, copied.

    A mask becomes a polygon a piece, which share a ``group_id``; a box becomes a rectangle; an object with an empty
    mask is left out, as by `Yolo`. ``swin-mm init --data OUT_DIR/labelme`` reads the folder back.
    """

    place = 'labelme'
    tasks = ('detection',)

    def write(self, item: Item) -> Iterator[Path]:
        """Writes the image first: LabelMe opens what the JSON names."""
        image = self._copy(item)
        yield image
        height, width = item.pixels.shape[:2]
        found = item.found.filter(self.job.score)
        content = dict(
            version='5.0.0',
            flags={},
            shapes=[shape for i, one in enumerate(found, 1) for shape in _shapes(one, i)],
            imagePath=image.name,
            imageData=None,
            imageHeight=height,
            imageWidth=width,
        )
        path = self.path(item, '.json')
        path.write_text(json.dumps(content))
        yield path

    def _copy(self, item: Item) -> Path:
        source = Path(item.source)
        if source.is_file():
            return Path(shutil.copyfile(source, self.path(item, source.suffix)))
        path = self.path(item, '.png')
        Image.fromarray(np.ascontiguousarray(self.job.reader.to_rgb(item.pixels))).save(path)
        return path


def _centred(box: np.ndarray, size: tuple[int, ...]) -> list[float]:
    """(x, y, width, height) of a box, its middle first, in shares of ``size``."""
    x1, y1, x2, y2 = np.clip(box, 0, [*size, *size]).tolist()
    return [(x1 + x2) / 2 / size[0], (y1 + y2) / 2 / size[1], (x2 - x1) / size[0], (y2 - y1) / size[1]]


def _shapes(one: FoundObject, number: int) -> Iterator[dict[str, Any]]:
    """LabelMe's shapes of an object, with its score as their description."""
    shape = dict(label=one.name, description=f'{one.score:.3f}', flags={})
    if one.mask is None:
        corners = np.reshape(one.box, (2, 2)).astype(float).tolist()
        yield dict(shape, shape_type='rectangle', points=corners, group_id=None)
        return
    pieces = outlines(one.mask)
    for piece in pieces:
        group = number if len(pieces) > 1 else None
        yield dict(shape, shape_type='polygon', points=piece.astype(float).tolist(), group_id=group)
