"""Turns what the heads of an mmdet model gave into plain results: boxes, masks, panoptic segments."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .origin import Origin
from .results import Detections, Panoptic


def detections(sample: Any, origin: Origin) -> Detections:
    """Gives the ``Detections`` of a ``DetDataSample`` on the CPU; what it does not hold, the model does not give."""
    classes = origin.classes
    panoptic = sample.get('pred_panoptic_seg')
    arrays = _objects(sample.pred_instances) if 'pred_instances' in sample else _no_objects()
    return Detections(
        **arrays,
        names=[classes[label] for label in arrays['labels']],
        panoptic=None if panoptic is None else _segments(panoptic.sem_seg[0].numpy(), classes),
        sample=sample,
        origin=origin,
    )


def _no_objects() -> dict[str, Any]:
    boxes = np.zeros((0, 4), np.float32)
    return dict(boxes=boxes, scores=boxes[:, 0], labels=np.zeros(0, np.int64), masks=None)


def _objects(found: Any) -> dict[str, Any]:
    found = found[found.scores.argsort(descending=True, stable=True)]  # Mask2Former's come in any order
    boxes, masks = found.bboxes, found.get('masks')
    if masks is not None and not boxes.any():  # SOLO's head gives zeros
        from mmdet.structures.mask import mask2bbox

        boxes = mask2bbox(masks)
    return dict(
        boxes=boxes.numpy(),
        scores=found.scores.numpy(),
        labels=found.labels.numpy(),
        masks=None if masks is None else masks.numpy(),
    )


def _segments(ids: np.ndarray, classes: Sequence[str]) -> Panoptic:
    from mmdet.evaluation.functional import INSTANCE_OFFSET

    known, segments = np.unique(ids, return_inverse=True)
    segments = segments.reshape(ids.shape)
    nothing = known == len(classes)  # the number after those of all classes
    places = np.where(nothing, -1, np.cumsum(~nothing) - 1)
    known = known[~nothing].astype(np.int64)
    labels = known % INSTANCE_OFFSET
    return Panoptic(places[segments], labels, [classes[label] for label in labels], known)
