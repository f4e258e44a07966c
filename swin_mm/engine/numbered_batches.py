"""Batches whose order and random numbers depend only on the seed of a run and on their place in it.

So neither a random state nor the state of a sampler is saved. A run that goes on at batch 1000 only counts to 1000,
which reads no image. The number of workers that load the batches changes nothing.
"""

import contextlib
import copy
import itertools
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from torch.utils.data import BatchSampler, DataLoader

MODEL, DATA, ORDER = range(3)  # the uses of random numbers, each a part of a key


def seed_everything(*key: int, model: bool = True) -> None:
    """Seeds the random states of Python, NumPy and PyTorch with ``key``, integers >= 0.

    Unless ``model``, the generators of devices other than the CPU stay as they are.
    """
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed = int(words[:2].view(np.uint64)[0])
    if model and get_device() != 'cpu':
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` takes long to find that there is no GPU


@contextlib.contextmanager
def numbers_of(*key: int) -> Iterator[None]:
    """Seeds random numbers with ``key`` inside the block, and restores the states on the CPU after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_everything(*key, model=False)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class Batch(list):
    """Indices into a data set; ``key`` seeds the random numbers that they are loaded with."""

    key: tuple[int, ...] = ()


class NumberedBatches:
    """The batches of a batch sampler, each with a key made of ``seed``, ``rank`` and its number in the run.

    There is one pass over ``batches``, or pass after pass without end if ``endless``. The sampler is then told of every
    new pass through its ``set_epoch``, as in mmengine.
    """

    def __init__(self, batches: BatchSampler, seed: int, rank: int, endless: bool = False) -> None:
        self.batches, self.seed, self.rank, self.endless = batches, seed, rank, endless
        self.number = self.passed = 0

    def start_at(self, number: int, passed: int) -> None:
        """Lets the next iterator begin with batch ``number`` of the run, after ``passed`` batches are only counted.

        Counting works with every sampler, even with one that keeps images back, such as mmdet's
        AspectRatioBatchSampler.
        """
        self.number, self.passed = number, passed

    def __iter__(self) -> Iterator[Batch]:
        first = self.number - self.passed
        numbered = enumerate(self._stream(first), first)
        for number, indices in itertools.islice(numbered, self.passed, None):
            batch = Batch(indices)
            batch.key = (self.seed, self.rank, DATA, number)
            yield batch

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # a copy is asked for attributes before it has any
            raise AttributeError(name)
        return getattr(self.batches, name)  # such as `batch_size`, and `sampler`, which mmengine tells the epoch

    def _stream(self, first: int) -> Iterator[Sequence[int]]:
        yield from self._one_pass(first)
        if not self.endless or len(self) == 0:
            return
        for epoch in itertools.count(1):
            if hasattr(self.batches.sampler, 'set_epoch'):
                self.batches.sampler.set_epoch(epoch)
            yield from self._one_pass(epoch)

    def _one_pass(self, number: int) -> Iterator[Sequence[int]]:
        batches = iter(self.batches)
        # PyTorch's samplers have no seed of their own: they draw one when they are asked for the first index.
        with numbers_of(self.seed, ORDER, number):
            begin = list(itertools.islice(batches, 1))
        return itertools.chain(begin, batches)


def numbered_loader(loader: DataLoader, batches: NumberedBatches) -> DataLoader:
    """Makes a loader like ``loader`` that loads ``batches``, each with the random numbers of its key."""
    dataset: Any = loader.dataset
    # PyTorch calls this method, if a data set has it, for a whole batch at once.
    dataset.__getitems__ = partial(_load_batch, dataset)
    numbered = copy.copy(loader)  # so that it is of the same class, with every setting, whatever they are
    vars(numbered).update(batch_sampler=batches, _iterator=None)  # PyTorch refuses this as a plain assignment
    return numbered


def _load_batch(dataset: Sequence, batch: Batch) -> list:
    with numbers_of(*batch.key):
        return [dataset[index] for index in batch]


def batches_after(loader: DataLoader, passed: int) -> Iterator[Any]:
    """Yields None for each of ``passed`` batches, then loaded ones; ``loader`` starts when its first batch is due."""
    yield from itertools.repeat(None, passed)
    yield from loader
