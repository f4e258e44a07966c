"""Pictures of results: the image with the result drawn in, and objects cut out."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..drawing import class_colours
from .output import Item, Job, Output, path_part


class Drawn(Output):
    """``vis/NAME.jpg``: the image with the result drawn in; raises ValueError for a palette with too few colours."""

    place = 'vis'

    def __init__(self, job: Job):
        super().__init__(job)
        if job.drawing.get('palette') is not None:
            class_colours(job.drawing['palette'], len(job.classes))

    def write(self, item: Item) -> Iterator[Path]:
        """Draws what `plot` draws, but no frame: `ClipWriter` draws it into the video."""
        if item.is_frame:
            return
        path = self.path(item, '.jpg')
        write_jpeg(path, item.found.plot(item.pixels, **self.job.drawing))
        yield path


class Crops(Output):
    """``crops/CLASS/NAME_K.jpg``: the box of object K, cut out; K counts the objects of the image from 1."""

    place = 'crops'
    tasks = ('detection',)

    def write(self, item: Item) -> Iterator[Path]:
        """Cuts out the objects that score enough, of which a pixel is in the image."""
        image = self.job.reader.to_rgb(item.pixels)
        height, width = image.shape[:2]
        for number, one in enumerate(item.found.filter(self.job.score), 1):
            limits = np.clip([*np.floor(one.box[:2]), *np.ceil(one.box[2:])], 0, [width, height] * 2)
            x1, y1, x2, y2 = limits.astype(int)
            if x2 > x1 and y2 > y1:
                path = self.folder / path_part(one.name) / f'{item.name}_{number}.jpg'
                path.parent.mkdir(parents=True, exist_ok=True)
                write_jpeg(path, image[y1:y2, x1:x2])
                yield path


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes ``image``, in RGB; raises OSError where OpenCV would be silent, on a full disk."""
    _, data = cv2.imencode('.jpg', np.ascontiguousarray(image[..., ::-1]))  # with quality 95
    path.write_bytes(data.tobytes())
