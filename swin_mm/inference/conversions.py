"""Results as other libraries have them: supervision's objects, COCO's run lengths and ids, outlines of masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

TOLERANCE = 0.75  # pixels


def to_supervision(
    boxes: np.ndarray | None, masks: np.ndarray | None, labels: np.ndarray, names: list[str], scores: np.ndarray | None
) -> Any:
    """Gives a ``supervision.Detections``; boxes are those around the masks if there are none."""
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "to_supervision needs the package supervision: pip install 'swin-mm[own_data]'", name='supervision'
        ) from error
    corners: Any = supervision.mask_to_xyxy(masks) if boxes is None and masks is not None else boxes
    return supervision.Detections(
        xyxy=corners,
        mask=masks,
        confidence=scores,
        class_id=labels.astype(int),
        data={'class_name': np.array(names, str)},
    )


def run_lengths(masks: np.ndarray) -> list[dict[str, Any]]:
    """COCO's run-length encodings of ``masks`` (N, height, width), as they stand in JSON.

    The lengths are counted here, in the columns that a mask has pixels in; pycocotools, which packs them, would go
    through the whole image for each.
    """
    from pycocotools import mask as coco

    height, width = masks.shape[1:]
    lengths = [dict(counts=_count_runs(mask), size=[height, width]) for mask in masks]
    codes = coco.frPyObjects(lengths, height, width) if lengths else []
    return [{'size': [height, width], 'counts': code['counts'].decode()} for code in codes]


def _count_runs(mask: np.ndarray) -> list[int]:
    """Lengths of runs down the columns, one column after the other, the first of zeros."""
    height, width = mask.shape
    columns = np.flatnonzero(mask.any(0))
    if not len(columns):
        return [height * width]
    first, last = columns[[0, -1]]
    pixels = cv2.transpose(mask[:, first : last + 1].astype(np.uint8)).ravel()
    changes = np.flatnonzero(np.diff(pixels, prepend=0, append=0)) + first * height
    ends = changes if changes[-1] == height * width else [*changes, height * width]
    return np.diff(ends, prepend=0).tolist()


def category_id(label: int, ids: Mapping[int, int] | Sequence[int] | None) -> int:
    """The id of the class with index ``label``: ``ids[label]``, or the index plus 1; raises ValueError without one."""
    if ids is None:
        return label + 1
    try:
        return int(ids[label])
    except (KeyError, IndexError):
        raise ValueError(f'category_ids must have an id for each class, got none for index {label}') from None


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outer outlines of the pieces of ``mask`` (height, width), the largest first: (points, 2) as (x, y) in pixels.

    They run along the outer sides of pixels, as COCO's polygons do, and leave out points that matter less than
    `TOLERANCE`. Holes are filled. A mask without pixels has none.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    corners = np.zeros(np.add(inside.shape, 1), np.uint8)  # of the pixels that are inside
    for part in (np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, :-1], np.s_[1:, 1:]):
        corners[part] |= inside
    pieces, _ = cv2.findContours(corners, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    pieces = sorted(pieces, key=cv2.contourArea, reverse=True)
    simple = [cv2.approxPolyDP(piece, TOLERANCE, True) for piece in pieces]
    kept = [few if len(few) >= 3 else all_ for few, all_ in zip(simple, pieces, strict=True)]  # a pixel has few to lose
    return [piece[:, 0] + [columns[0], rows[0]] for piece in kept]
