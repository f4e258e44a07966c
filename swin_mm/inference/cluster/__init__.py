"""Prediction of more images than one machine takes, on a cluster of Ray: `predict`.

The images are listed once and cut into parts. The files of a job, in the folder ``out``:

- ``images/00000012.json``: the paths of the images of part 12.
- ``job.json``: the settings and the number of parts, written when all lists are there.
- ``attempts/00000012.json``: while a worker is at part 12, how many died at it.
- ``parts/00000012.parquet`` or ``.jsonl``: a row for each image of part 12, in this order.

Ray Data takes the parts that have no results, reads their images in tasks and predicts them in actors, each of which
holds the model. A results file is put in place whole, under a name that only its part has. So a part that is predicted
twice, such as by a worker that was believed dead, still has one file, and each image has one row.

- A worker or a machine dies: Ray does its part again elsewhere.
- The driver or the head node dies, or the job is cancelled: the same command goes on with the parts that are left.
- The driver dies while it lists images: no part was predicted; the same command lists them anew.
- An image cannot be read or predicted: its row says why. `Attempt` finds one that kills its workers.

Results are those of one `Predictor` with the same batch size and device, bit by bit on equal hardware: a part goes
through `Predictor.stream`, and is a multiple of the images that this sorts into batches.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from mmengine.config import Config

from ...checkpoints.downloads import sha256
from ..images import MAX_PIXELS
from ..loading import image_reader
from ..predictors import SORTED
from .attempts import Attempt
from .job import Job
from .rows import FORMATS
from .storage import images_in
from .workers import Model, PartPredictor, read_part

__all__ = ['FORMATS', 'Attempt', 'Job', 'Progress', 'Settings', 'predict']

MOST_BLOCKS = 4096  # of work that the driver hands out; a block has several parts if there are more of these


@dataclass(frozen=True)
class Settings:
    """How a job is done. ``device``: 'cpu', or None for GPUs where the cluster has them.

    ``address`` of the cluster: 'auto' on one of its machines, 'HOST:PORT', or 'local' for this machine alone. As many
    ``actors`` hold the model, each with ``gpus_per_actor``, which may be a fraction; None: as many as the cluster has
    room for now, with a GPU each or, without any, with a CPU each. ``images_per_part`` is rounded up to full batches.
    """

    address: str = 'local'
    format: str = 'parquet'
    images_per_part: int = 500
    batch_size: int = 1
    max_pixels: int = MAX_PIXELS
    device: str | None = None
    actors: int | None = None
    gpus_per_actor: float | None = None


@dataclass(frozen=True)
class Progress:
    """``done`` of ``parts`` have results; the last one ``images``, of which ``failed`` (None: not counted)."""

    done: int
    parts: int
    images: int | None = None
    failed: int | None = None


def predict(source: str, cfg: Config, weights: Path, out: str, settings: Settings) -> Iterator[Progress]:
    """Predicts all images of ``source`` into the folder ``out``; goes on where an earlier call stopped.

    ``source`` is as for `images_in`, ``weights`` a file here, which need not be on other machines. Yields once for what
    is there already and then for each part. Raises OSError or ValueError if a source, storage or setting cannot be
    used, ``ray.exceptions.RayError`` if the cluster fails.
    """
    job = Job(out, settings.format)
    sorted_at_once = SORTED * settings.batch_size
    parts = job.begin(
        images_in(source, image_reader(cfg).suffixes),
        -(-settings.images_per_part // sorted_at_once) * sorted_at_once,
        dict(
            source=source,
            model=hashlib.sha256(cfg.pretty_text.encode()).hexdigest(),
            weights=sha256(weights),
            batch_size=settings.batch_size,
            max_pixels=settings.max_pixels,
        ),
    )
    left = job.left(parts)
    done = parts - len(left)
    yield Progress(done, parts)
    if not left:
        return
    _connect(settings.address)
    try:
        for row in _results(job, left, cfg, weights, settings).iter_rows():
            done += 1
            yield Progress(done, parts, row['images'], row['failed'])
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    ray.init(address=address, log_to_driver=False, logging_level='warning', ignore_reinit_error=True)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


def _results(job: Job, left: list[int], cfg: Config, weights: Path, settings: Settings) -> 'ray.data.Dataset':
    """The plan: part numbers -> files -> results; nothing runs before it is iterated."""
    actors, gpus = _room(settings)
    bytes_of_weights = ray.put(np.fromfile(weights, np.uint8))
    model = Model(cfg, (bytes_of_weights,), settings.device if gpus else 'cpu', settings.max_pixels)
    parts = ray.data.from_items([{'part': part} for part in left], override_num_blocks=min(len(left), MOST_BLOCKS))
    one = dict(batch_size=1, batch_format='pyarrow')  # a row is a part
    # Readers wait for the network: they take no CPU, or actors on all CPUs would keep them from starting.
    files = parts.map_batches(
        read_part, **one, fn_args=(job,), num_cpus=0, compute=ray.data.TaskPoolStrategy(size=max(2, actors))
    )
    return files.map_batches(
        PartPredictor,
        **one,
        fn_constructor_args=(job, model, settings.batch_size),
        num_cpus=1,
        num_gpus=gpus or None,
        compute=ray.data.ActorPoolStrategy(size=actors),
    )


def _room(settings: Settings) -> tuple[int, float]:
    """The number of actors, and the GPUs of each."""
    there = ray.cluster_resources()
    gpus = settings.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if there.get('GPU') and settings.device is None else 0.0
    if 0 < gpus < 1:
        room = there.get('GPU', 0) * int(1 / gpus)  # no actor has parts of two GPUs
    else:
        room = there.get('GPU', 0) // gpus if gpus else there.get('CPU', 1)
    return settings.actors or max(1, int(room)), gpus
