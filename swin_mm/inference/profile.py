"""Where the time of a prediction goes, from the file to the files that are written."""

import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import nn

from .outputs import Drawn, Writer
from .predictors import Predictor

Result = TypeVar('Result')
PARTS = ('read', 'prepare', 'backbone', 'neck', 'heads', 'draw', 'write')


class Profile:
    """Adds up the seconds of each of ``PARTS``. Parts that other threads do meanwhile overlap with the others."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.began = time.perf_counter()
        self._lock = Lock()

    def attach(self, model: Predictor, writer: Writer | None = None) -> None:
        """Times the reading, preparing and predicting of ``model``, and what ``writer`` draws and writes.

        Heads are what backbone and neck leave of the model's time.
        """
        model.reader.read = self.timed('read', model.reader.read)  # type: ignore[method-assign]
        model._pipeline = self.timed('prepare', model._pipeline)
        model._samples = self.timed('heads', model._samples)  # type: ignore[method-assign]
        for part in ('backbone', 'neck'):
            if isinstance(module := getattr(model.model, part, None), nn.Module):
                module.forward = self.timed(part, module.forward, within='heads')
        for output in writer.outputs if writer else ():
            part = 'draw' if isinstance(output, Drawn) else 'write'
            output.write = self.timed(part, _as_list(output.write))  # type: ignore[method-assign]
        if writer and writer.clips:
            writer.clips.add = self.timed('draw', writer.clips.add)  # type: ignore[method-assign]

    def timed(self, part: str, function: Callable[..., Result], within: str | None = None) -> Callable[..., Result]:
        """Gives ``function`` with its time added to ``part``, and taken off the part that it is ``within``."""

        # Other threads do not wait for what the model has asked of a GPU.
        now = self._now if part in ('backbone', 'neck', 'heads') else time.perf_counter

        def called(*args: Any, **kwargs: Any) -> Result:
            start = now()
            try:
                return function(*args, **kwargs)
            finally:
                spent = now() - start
                with self._lock:
                    self.seconds[part] += spent
                    if within:
                        self.seconds[within] -= spent

        return called

    def lines(self, images: int) -> Iterator[str]:
        """Yields a row for each part that took time: milliseconds an image, and its share of the whole."""
        whole = time.perf_counter() - self.began
        for part, seconds in self.seconds.items():
            if seconds:
                yield f'{part:10}{1000 * seconds / max(images, 1):10.1f} ms an image {seconds / whole:6.0%}'
        yield f'{"in all":10}{1000 * whole / max(images, 1):10.1f} ms an image, {images / whole:.2f} images a second'

    @staticmethod
    def _now() -> float:
        """The time when all that was asked of a GPU is done."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return time.perf_counter()


def _as_list(write: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """``write`` with its files made at once, so that their time is its own."""
    return lambda *args: iter(list(write(*args)))
