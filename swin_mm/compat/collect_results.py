"""Collects the results of all processes on the first, through files that nobody else can put there.

mmengine 0.10.7 (``mmengine/dist/dist.py``) has every process write a pickle into a folder below ``.dist_test`` of the
working directory, or into one of a given name, and unpickles whatever it finds there.
"""

import hashlib
import os
import pickle
import shutil
import tempfile
from itertools import chain, zip_longest
from pathlib import Path

from mmengine.dist import all_gather_object, broadcast_object_list, dist, get_dist_info

from .rebind import rebind


def install() -> None:
    """Puts `collect_results_cpu` in the place of mmengine's function."""
    rebind(dist.collect_results_cpu, collect_results_cpu)


def collect_results_cpu(result_part: list, size: int, tmpdir: str | None = None) -> list | None:
    """Gives the first ``size`` results of all processes, in the order of the data set; None on all but the first.

    Every process writes its results into a new folder in ``tmpdir`` or the working directory, which all processes must
    share. Only this user can enter the folder, and it is removed at the end. Raises RuntimeError for a file that is not
    what its process wrote: the processes tell the hashes of what they wrote, and not through a file.
    """
    rank, world_size = get_dist_info()
    if world_size == 1:
        return result_part[:size]
    shared = [_new_folder(tmpdir or os.curdir) if rank == 0 else '']
    broadcast_object_list(shared)
    folder = Path(shared[0])
    try:
        data = pickle.dumps(result_part)
        _part_path(folder, rank).write_bytes(data)
        digests = all_gather_object(hashlib.sha256(data).hexdigest())
        if rank != 0:
            return None
        parts = [_read_part(_part_path(folder, i), digest) for i, digest in enumerate(digests)]
    finally:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    # A sampler deals out images in turn, and repeats some to fill the last turn.
    return [result for result in chain.from_iterable(zip_longest(*parts)) if result is not None][:size]


def _new_folder(parent: str) -> str:
    os.makedirs(parent, exist_ok=True)
    return tempfile.mkdtemp(prefix='.results-', dir=parent)


def _part_path(folder: Path, rank: int) -> Path:
    return folder / f'part_{rank}.pkl'


def _read_part(path: Path, digest: str) -> list:
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} must be on a disk that all processes share: start in another folder, or set collect_dir of the '
            "metrics, or collect_device='gpu'"
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise RuntimeError(f'{path} must be what its process wrote, got other content: it is not read')
    return pickle.loads(data)
