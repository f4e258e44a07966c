"""The queue before the models: one thread predicts, a few requests wait, more are refused."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from .refusals import Refusal

Done = TypeVar('Done')


@dataclass(frozen=True)
class Limits:
    """What one server takes on.

    ``max_bytes`` of a picture's file. ``seconds`` from its arrival to its result. ``waiting``: requests in the queue
    besides the one at work. ``upload_seconds`` for a file to arrive.
    """

    max_bytes: int = 20_000_000
    seconds: float = 120
    waiting: int = 16
    upload_seconds: float = 60


class Desk:
    """Runs functions in one thread, one after the other; `place` first, then `run`."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self._pool = ThreadPoolExecutor(1, 'models')
        self._taken = 0
        self._last = 1.0  # seconds of the last run

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place in the queue; raises Refusal if there is none."""
        if self._taken > self.limits.waiting:
            raise Refusal(
                503,
                f'{self._taken} pictures are waiting already, which is the limit: try again in a moment',
                {'Retry-After': str(max(1, math.ceil(self._taken * self._last / 2)))},
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, function: Callable[[], Done], gone: Awaitable[None]) -> Done:
        """Gives ``function()``; raises Refusal after the limit of time, or when ``gone`` ends: nobody waits any more.

        A function that has begun goes on to its end, and what it gives is dropped; one that waits never begins.
        """
        job = asyncio.get_running_loop().run_in_executor(self._pool, self._timed, function)
        left = asyncio.ensure_future(gone)
        either: set[asyncio.Future] = {job, left}
        try:
            await asyncio.wait(either, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # by uvicorn, which waits no longer for its requests
            job.cancel()
            raise Refusal(503, 'the server is ending: ask again when it is back') from None
        finally:
            left.cancel()
        if job.done():
            return job.result()
        job.cancel()
        raise Refusal(
            504, f'there was no result within {self.limits.seconds:g} seconds: try a smaller picture, or again later'
        )

    def close(self) -> None:
        """Lets nothing more begin."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, function: Callable[[], Done]) -> Done:
        start = time.perf_counter()
        try:
            return function()
        finally:
            self._last = time.perf_counter() - start
