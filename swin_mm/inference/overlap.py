"""Work that goes on in other threads while the results before it are used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar('Item')
Done = TypeVar('Done')


def map_ahead(
    function: Callable[[Item], Done], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Generator[Done, None, None]:
    """Yields ``function(item)`` of every item, in order, computed by ``workers`` threads up to ``ahead`` items early.

    ``items`` are taken in the caller's thread, so at most ``ahead`` + 1 of them and of their results are in memory;
    None means twice the workers. Without workers the caller's thread computes each when it is asked for. An exception
    of the function ends the iteration where its result would be.
    """
    if workers == 0:
        yield from map(function, items)
        return
    ahead = 2 * workers if ahead is None else ahead
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also when the caller stops early: what has not begun never begins
        pool.shutdown(wait=True, cancel_futures=True)
