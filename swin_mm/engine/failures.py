"""Names the cause when a hung data loader, a dead worker process or a dead rank ends a run."""

import contextlib
import functools
import os
import time
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader, dataloader

from ..errors import RunError
from ..registry import HOOKS
from .around import around_run

DEAD_WORKER = 'DataLoader worker (pid'  # PyTorch's message begins so; in a worker's own errors this text comes later


@HOOKS.register_module()
class NamedFailures(Hook):
    """Ends a run whose data loader hangs, and names what hung or died, where PyTorch tells only how it noticed.

    Under gloo a rank that died is noticed at once, by its closed connection. A rank that hangs is noticed after the
    time-out of the process group (``env_cfg.dist_cfg.timeout``). That one should be longer than ``loader_timeout``, so
    that the cause is named first.

    Args:
        loader_timeout: Seconds that a loop waits for a batch from worker processes; a loader's own ``timeout`` wins.
    """

    priority = 'VERY_HIGH'

    def __init__(self, loader_timeout: float = 600.0):
        if loader_timeout <= 0:
            raise ValueError(f'loader_timeout must be > 0 seconds, got loader_timeout={loader_timeout}')
        self.loader_timeout = loader_timeout

    def before_run(self, runner: Runner) -> None:
        """Makes every loop of this run raise RunError for each failure that `explanation` knows."""
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                _limit_wait_for_batches(loop, self.loader_timeout)
                around_run(self, loop, functools.partial(_explained, loop.dataloader))


def explanation(error: RuntimeError, timeout: float) -> str | None:
    """Says why a run ended with ``error`` and what helps; None if ``error`` is none of the failures known here.

    ``timeout`` is the loader's, in seconds.
    """
    text = str(error)
    if text.startswith('DataLoader timed out'):
        return (
            f'no worker of the data loader gave a batch for {timeout:g} s: the storage hangs, or a worker waits for a '
            'lock. Try num_workers=0, persistent_workers=False to see where; allow more time with '
            'default_hooks.failures.loader_timeout'
        )
    if text.startswith(DEAD_WORKER):
        return (
            f'a worker process of the data loader died ({text.splitlines()[0].rstrip(". ")}). "Killed" mostly means '
            'that memory ran out, "Bus error" that shared memory did (`swin-mm doctor` shows both): lower num_workers'
        )
    if isinstance(error, torch.distributed.DistError) or '/gloo/' in text or '[c10d]' in text:
        return (
            f'rank {os.environ.get("RANK", "?")} lost its connection to another rank, which died or hangs: the reason '
            f'stands in the output of that one. Noticed as: {text.splitlines()[0]}'
        )
    return None


def _limit_wait_for_batches(loop: BaseLoop, timeout: float) -> None:
    loader = loop.dataloader
    if not isinstance(loader, DataLoader) or loader.num_workers == 0 or loader.timeout > 0:
        return
    loader.timeout = timeout
    # mmengine's iteration-based loop has started its workers by now; PyTorch reads the attribute at every batch.
    running = getattr(getattr(loop, 'dataloader_iterator', None), '_iterator', None)
    if running is not None:
        running._timeout = timeout


@contextlib.contextmanager
def _explained(loader: Any) -> Iterator[None]:
    try:
        try:
            yield
        except (ConnectionError, EOFError) as error:  # a worker died while its batch was taken over
            if 'Caught' in str(error) or not _was_raised_within_loader(error):
                raise
            time.sleep(1)  # PyTorch's signal handler raises the cause of death, during this wait at the latest
            how = f'{type(error).__name__} while its batch was taken over'
            raise RuntimeError(f'{DEAD_WORKER} unknown): {how}') from error
    except RunError as error:
        # The message of a worker's error begins with the worker's traceback.
        raise RunError(str(error).rpartition(f'{RunError.__name__}: ')[2].strip()) from error
    except RuntimeError as error:
        reason = explanation(error, getattr(loader, 'timeout', 0))
        if reason is None:
            raise
        raise RunError(reason) from error


def _was_raised_within_loader(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename == dataloader.__file__ for frame, _ in frames)
