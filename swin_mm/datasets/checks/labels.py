"""Checks the label files of semantic segmentation by the rules of `LoadLabels`."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from .findings import Findings, Offender
from .images import ImageFile

DECODED = 200  # label files of a data set whose values are looked at, unless all are
SENTENCES = {
    'label-missing': 'label files are not there',
    'label-broken': 'label files cannot be read',
    'label-kind': 'label files hold no class index for each pixel',
    'label-size': 'label files are of another size than their image',
    'label-values': 'label files have values outside the classes',
}


def check_labels(
    samples: Sequence[dict], images: Sequence[ImageFile], classes: int, decode: bool, found: Findings
) -> None:
    """Checks the label file of each of ``samples``, as a `BaseSegDataset` lists them, beside its image."""
    faults = label_faults(samples, images, classes, decode)
    for check, sentence in SENTENCES.items():
        lines = [Offender(text, path) for kind, text, path in faults if kind == check]
        found.add('error', check, sentence, lines, len(lines))


def label_faults(
    samples: Sequence[dict], images: Sequence[ImageFile], classes: int, decode: bool
) -> list[tuple[str, str, str]]:
    """Gives (key of ``SENTENCES``, what is wrong, path of the image) for label files that `LoadLabels` would refuse.

    Kind and size come from the header; values are those of all files with ``decode``, else of ``DECODED`` of them, from
    the first to the last.
    """
    step = 1 if decode else max(1, -(-len(samples) // DECODED))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [
            (sample, image, classes, i % step == 0)
            for i, (sample, image) in enumerate(zip(samples, images, strict=True))
            if 'seg_map_path' in sample
        ]
        results = zip(jobs, pool.map(_fault, jobs), strict=True)
        return [(*fault, job[0]['img_path']) for job, fault in results if fault]


def _fault(job: tuple[dict, ImageFile, int, bool]) -> tuple[str, str] | None:
    """Says what is wrong with a label file, (check, sentence); the last of ``job`` is whether to look at its values."""
    from ..load_labels import LoadLabels, check_kind, check_size

    sample, image, classes, values = job
    path = sample['seg_map_path']
    size = {'ori_shape': image.shown_size[::-1]} if image.shown_size else {}
    results: dict[str, Any] = {**sample, **size, 'seg_fields': []}
    check = 'label-kind'
    try:
        with Image.open(path) as labels:
            check_kind(labels, path)
            check = 'label-size'
            check_size(labels, path, results)
        check = 'label-values'
        if values:
            LoadLabels(classes).transform(results)
    except FileNotFoundError:
        return 'label-missing', f'{path} of {sample["img_path"]}'
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return 'label-broken', f'{path}: {type(error).__name__}: {error}'
    except ValueError as error:
        # Only a file that is cut short fails to decode after its header was read.
        return ('label-broken' if isinstance(error.__cause__, OSError) else check), str(error)
    return None
