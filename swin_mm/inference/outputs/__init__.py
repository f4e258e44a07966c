"""What `swin-mm predict` writes: a format an `Output`, all images one after the other."""

from collections.abc import Sequence

from .coco_results import CocoResults
from .journal import Journal
from .labels import LabelMe, Yolo
from .masks import Masks
from .output import Item, Job, Output
from .pictures import Crops, Drawn
from .predictions import Predictions, as_json
from .table import Table
from .writer import Writer, Written

FORMATS: dict[str, type[Output]] = {
    'vis': Drawn,
    'json': Predictions,
    'coco': CocoResults,
    'yolo': Yolo,
    'labelme': LabelMe,
    'csv': Table,
    'masks': Masks,
    'crops': Crops,
}


def open_outputs(names: Sequence[str], job: Job) -> list[Output]:
    """Opens the formats of ``names`` for ``job``; makes their folders."""
    for name in names:
        (job.folder / FORMATS[name].place).mkdir(parents=True, exist_ok=True)
    return [FORMATS[name](job) for name in names]


__all__ = [
    'FORMATS',
    'Drawn',
    'Item',
    'Job',
    'Journal',
    'Output',
    'Writer',
    'Written',
    'as_json',
    'open_outputs',
]
