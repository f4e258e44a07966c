"""Pieces of work on the CPU, each on a core of its own.

PyTorch splits every small operation over the cores, and all of them wait for the slowest, dozens of times a layer.
Here a core takes a whole piece, does not wait, and keeps what it works on in its own cache.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import Any, TypeVar

import torch

Result = TypeVar('Result')


def map_on_cores(work: Callable[..., Result], pieces: Iterable[tuple[Any, ...]]) -> list[Result]:
    """Runs ``work(*piece)`` for each of ``pieces`` without gradient and autocast; returns the results in order.

    It takes as many threads as PyTorch may use. With fewer pieces than threads it takes none: then PyTorch splits
    operations.
    """
    pieces, threads = list(pieces), torch.get_num_threads()
    if threads == 1 or len(pieces) < threads:
        with torch.no_grad(), torch.autocast('cpu', enabled=False):
            return [work(*piece) for piece in pieces]
    inference = torch.is_inference_mode_enabled()

    def run(piece: tuple[Any, ...]) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return work(*piece)

    return list(_pool(threads).map(run, pieces))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that compute on one core each."""
    pool, started = ThreadPoolExecutor(threads, 'swin_mm'), Barrier(threads)

    def start(_: int) -> None:
        torch.get_num_threads()  # asked for the first time, PyTorch sets a thread's number to that of the process
        torch.set_num_threads(1)
        started.wait()  # so that every thread of the pool gets one of these

    list(pool.map(start, range(threads)))
    torch.set_num_threads(threads)  # some of PyTorch's libraries keep one number for all threads
    return pool


if hasattr(os, 'register_at_fork'):  # not on Windows
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
