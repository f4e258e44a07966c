"""Results as rows of a table, one an image, in Parquet or JSON lines."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from ..results import Detections, Panoptic, Segmentation

FORMATS = ('parquet', 'jsonl')
IMAGE = {'path': pa.string(), 'height': pa.int32(), 'width': pa.int32(), 'error': pa.string()}
SEGMENT = pa.struct({'id': pa.int64(), 'label': pa.int32(), 'name': pa.string()})
COLUMNS = {
    'mmdet': {
        'boxes': pa.list_(pa.list_(pa.float32(), 4)),
        'scores': pa.list_(pa.float32()),
        'labels': pa.list_(pa.int32()),
        'names': pa.list_(pa.string()),
        'masks': pa.list_(pa.struct({'size': pa.list_(pa.int32()), 'counts': pa.string()})),
        'segments': pa.list_(SEGMENT),
        'segments_png': pa.binary(),
    },
    'mmseg': {
        'shares': pa.list_(pa.struct({'label': pa.int32(), 'name': pa.string(), 'share': pa.float64()})),
        'labels_png': pa.binary(),
    },
}


def row(path: str, found: tuple[np.ndarray, Any] | Exception, classes: Sequence[str]) -> dict[str, Any]:
    """The row of an image that `Predictor.stream` gave (pixels, result) or an exception for."""
    if isinstance(found, Exception):
        return dict(path=path, error=str(found))
    pixels, result = found
    height, width = pixels.shape[:2]
    columns = _segmentation(result, classes) if isinstance(result, Segmentation) else _detections(result)
    return dict(path=path, height=height, width=width, error=None, **columns)


def encoded(rows: Sequence[dict[str, Any]], scope: str, file_format: str) -> bytes:
    """A file of ``rows``; ``scope`` is the package of the model, 'mmdet' or 'mmseg'. In JSON a PNG is in base64."""
    columns = IMAGE | COLUMNS[scope]
    if file_format == 'jsonl':
        whole = ({name: one.get(name) for name in columns} for one in rows)
        return ''.join(json.dumps(one, default=_base64) + '\n' for one in whole).encode()
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows), pa.schema(columns)), sink, compression='zstd')
    return sink.getvalue()


def _detections(found: Detections) -> dict[str, Any]:
    columns = dict(
        boxes=found.boxes.tolist(), scores=found.scores.tolist(), labels=found.labels.tolist(), names=found.names
    )
    if found.masks is not None:
        columns['masks'] = found.run_lengths
    return columns if found.panoptic is None else columns | _segments(found.panoptic)


def _segments(found: Panoptic) -> dict[str, Any]:
    """Each segment, and a PNG with the place of a pixel's segment among them, counted from 1; 0 has none."""
    numbered = zip(found.ids.tolist(), found.labels.tolist(), found.names, strict=True)
    segments = [{'id': i, 'label': label, 'name': name} for i, label, name in numbered]
    return dict(segments=segments, segments_png=_png(found.segments + 1))


def _segmentation(found: Segmentation, classes: Sequence[str]) -> dict[str, Any]:
    shares = [dict(label=classes.index(name), name=name, share=share) for name, share in found.shares.items()]
    return dict(shares=shares, labels_png=_png(found.labels))


def _png(numbers: np.ndarray) -> bytes:
    """A PNG of numbers from 0 on, of 8 bits or, if they need them, 16."""
    file = io.BytesIO()
    Image.fromarray(numbers.astype(np.uint8 if numbers.max() < 256 else np.uint16)).save(file, 'PNG')
    return file.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
