"""A JSON file an image, as mmdet's demo writes it, and the class of each pixel as a PNG."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..results import Detections, Panoptic, Segmentation
from .masks import write_indices
from .output import Item, Output


class Predictions(Output):
    """``preds/NAME.json`` with all objects or the classes; beside it the segments or classes of the pixels as a PNG."""

    place = 'preds'

    def write(self, item: Item) -> Iterator[Path]:
        """Writes the PNG first, which the JSON names."""
        content = as_json(item.found)
        if isinstance(item.found, Segmentation):
            path = self.path(item, '.png')
            write_indices(path, item.found.labels, len(self.job.classes))
            yield path
        elif item.found.panoptic is not None:
            path = self.path(item, '_panoptic_seg.png')
            Image.fromarray(panoptic_colours(item.found.panoptic)).save(path)
            yield path
            content['panoptic_seg_path'] = str(path)
        path = self.path(item, '.json')
        path.write_text(json.dumps(content))
        yield path


def as_json(found: Detections | Segmentation) -> dict[str, Any]:
    """The layout that mmdet's ``DetInferencer`` writes, and names; masks as COCO run-length encodings.

    ``segments_info`` has the number of each segment in the PNG, as COCO's panoptic format has it, and its class.
    Of a segmentation: ``shares`` of the image by class name, the largest first, and ``labels``: indices in the PNG.
    """
    if isinstance(found, Segmentation):
        labels = found.origin.indices(found.shares)
        return {'shares': found.shares, 'labels': dict(zip(found.shares, labels, strict=True))}
    result: dict[str, Any] = dict(
        labels=found.labels.tolist(),
        label_names=found.names,
        scores=found.scores.tolist(),
        bboxes=found.boxes.tolist(),
    )
    if found.masks is not None:
        result['masks'] = found.run_lengths
    if found.tracks is not None:
        result['track_ids'] = found.tracks.tolist()
    if (panoptic := found.panoptic) is not None:
        numbered = zip(panoptic.ids.tolist(), panoptic.labels.tolist(), panoptic.names, strict=True)
        result['segments_info'] = [dict(id=i, label=label, label_name=name) for i, label, name in numbered]
    return result


def panoptic_colours(panoptic: Panoptic) -> np.ndarray:
    """The segments in the colours that panopticapi gives their numbers: uint8 (height, width, 3) in RGB."""
    numbers = np.append(panoptic.ids, 0)[panoptic.segments]  # the last, 0, where nothing was found
    return np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
