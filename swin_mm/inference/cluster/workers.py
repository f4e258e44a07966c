"""What runs on the machines of a cluster: tasks that read the images of a part, actors that hold a model."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from pyarrow import fs

from ...errors import one_line
from ..overlap import map_ahead
from ..predictors import Detector, Segmentor
from ..prepared import EncodedImage
from .attempts import Attempt
from .job import Job
from .rows import encoded, row
from .storage import place

Found = tuple[np.ndarray, Any] | Exception
READERS = 16  # threads that wait for files at a time
ATTEMPTS = 3  # to read a file where a storage or network fails
PART = pa.schema(
    {
        'part': pa.int64(),
        'paths': pa.list_(pa.string()),
        'files': pa.list_(pa.large_binary()),
        'reasons': pa.list_(pa.string()),
    }
)


@dataclass(frozen=True)
class Model:
    """A model to be loaded anywhere: ``weights`` holds the reference of a checkpoint's bytes."""

    cfg: Config
    weights: tuple['ray.ObjectRef[np.ndarray]']
    device: str | None
    max_pixels: int

    def load(self) -> Detector | Segmentor:
        """Builds it here."""
        if self.cfg.get('custom_imports'):
            import_modules_from_strings(**self.cfg.custom_imports)
        task = Segmentor if self.cfg.get('default_scope') == 'mmseg' else Detector
        with tempfile.NamedTemporaryFile() as file:
            file.write(ray.get(self.weights[0]).data)
            file.flush()
            return task(self.cfg, file.name, self.device, self.max_pixels)


def read_part(table: pa.Table, job: Job) -> pa.Table:
    """Reads the files of the part that ``table`` names, of one row, into one row; says why for those it cannot."""
    part = table['part'][0].as_py()
    paths = json.loads(job.images(part).read())
    files, reasons = zip(*map_ahead(_read, paths, READERS), strict=True)
    return pa.table([[part], [paths], [list(files)], [list(reasons)]], PART)


def _read(path: str) -> tuple[bytes | None, str | None]:
    for attempt in range(ATTEMPTS):
        time.sleep(2**attempt - 1)
        try:
            return place(path).read(), None
        except (FileNotFoundError, ValueError) as error:
            return None, str(error)
        except OSError as error:
            reason = one_line(error)
    return None, reason


class PartPredictor:
    """Predicts parts with a model that is loaded once, and writes their results."""

    def __init__(self, job: Job, model: Model, batch_size: int):
        self.job, self.model, self.batch_size = job, model.load(), batch_size

    def __call__(self, table: pa.Table) -> pa.Table:
        """Gives the number of images of a part, of one row, and how many failed; None if its results are there."""
        (part,) = table.to_pylist()
        target, note = self.job.results(part['part']), self.job.note(part['part'])
        images = failed = None
        if target.kind() != fs.FileType.File:  # a task is done again if the worker died after it was done
            given = [
                EncodedImage(path, data) if reason is None else OSError(reason)
                for path, data, reason in zip(part['paths'], part['files'], part['reasons'], strict=True)
            ]
            found = self._found(part['paths'], given, Attempt(note))
            rows = [row(path, one, self.model.classes) for path, one in zip(part['paths'], found, strict=True)]
            target.write(encoded(rows, self.model.scope, self.job.format))
            images, failed = len(rows), sum(one['error'] is not None for one in rows)
        note.delete()
        return pa.table({'part': [part['part']], 'images': [images], 'failed': [failed]})

    def _found(
        self, paths: Sequence[str], images: Sequence[EncodedImage | OSError], attempt: Attempt
    ) -> Iterator[Found]:
        """Yields what `Predictor.stream` does; one image at a time if that killed workers."""
        if not attempt.is_careful:
            ahead = 0 if self.model.device.type == 'cpu' else 2
            yield from map(self._alive, self.model.stream(images, self.batch_size, ahead))
            return
        for path, image in zip(paths, images, strict=True):
            if reason := attempt.reason(path):
                yield RuntimeError(reason)
            else:
                attempt.begin(path)
                yield from map(self._alive, self.model.stream([image]))
        attempt.begin(None)

    def _alive(self, found: Found) -> Found:
        """Gives ``found``; ends this process if its GPU can do no more, or each later image would fail as well."""
        if isinstance(found, Exception) and self.model.device.type == 'cuda':
            try:
                torch.cuda.synchronize()
            except RuntimeError:
                os._exit(1)
        return found
