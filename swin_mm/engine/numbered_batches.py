"""Batches whose order, and whose random numbers, follow from a run's seed and from their place in it alone.

So nothing of a random state or of a sampler needs saving: a run that goes on at batch 1000 has only to count to 1000,
which reads no picture, and the number of workers that load the batches changes nothing.
"""

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from torch.utils.data import BatchSampler, DataLoader

MODEL, DATA, ORDER = range(3)  # what numbers are drawn for


def seed_everything(*key: int, model: bool = True) -> None:
    """Leaves Python, NumPy and PyTorch with random states that follow from ``key``, integers >= 0.

    Unless ``model``, generators of devices other than the CPU stay as they are.
    """
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words.tobytes())
    np.random.seed(words)
    on_cpu = not model or get_device() == 'cpu'  # PyTorch's own function takes long to find that there is no GPU
    (torch.default_generator.manual_seed if on_cpu else torch.manual_seed)(int(words[:2].view(np.uint64)[0]))


@contextlib.contextmanager
def numbers_of(*key: int) -> Iterator[None]:
    """Random numbers that follow from ``key`` inside, and as if nothing had been drawn afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_everything(*key, model=False)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class Batch(list):
    """Indices into a data set; ``key`` says which random numbers they are loaded with."""

    key: tuple[int, ...] = ()


class NumberedBatches:
    """The batches of a batch sampler, each with a key made of ``seed``, ``rank`` and its number in the run.

    One pass, or without end if ``endless``: then ``set_epoch`` of its sampler hears of every new pass, as in mmengine.
    """

    def __init__(self, batches: BatchSampler, seed: int, rank: int, endless: bool = False) -> None:
        self.batches, self.seed, self.rank, self.endless = batches, seed, rank, endless
        self.number = self.passed = 0

    def start_at(self, number: int, passed: int) -> None:
        """The next iterator begins with batch ``number`` of the run, after ``passed`` batches that are only counted.

        Every sampler can be counted through, those too that keep pictures back, as mmdet's AspectRatioBatchSampler.
        """
        self.number, self.passed = number, passed

    def __iter__(self) -> Iterator[Batch]:
        first = self.number - self.passed
        for number, indices in itertools.islice(enumerate(self._stream(first), first), self.passed, None):
            batch = Batch(indices)
            batch.key = (self.seed, self.rank, DATA, number)
            yield batch

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # not there yet while it is copied
            raise AttributeError(name)
        return getattr(self.batches, name)  # `sampler`, which mmengine tells the epoch, and `batch_size`

    def _stream(self, first: int) -> Iterator[Sequence[int]]:
        yield from self._one_pass(first)
        for epoch in itertools.count(1) if self.endless and len(self) else ():
            if hasattr(self.batches.sampler, 'set_epoch'):
                self.batches.sampler.set_epoch(epoch)
            yield from self._one_pass(epoch)

    def _one_pass(self, number: int) -> Iterator[Sequence[int]]:
        batches = iter(self.batches)
        # PyTorch's samplers, which have no seed, draw one when they are asked for the first index.
        with numbers_of(self.seed, ORDER, number):
            begin = list(itertools.islice(batches, 1))
        return itertools.chain(begin, batches)


def numbered_loader(loader: DataLoader, batches: NumberedBatches) -> DataLoader:
    """Another ``loader`` of its data set, which loads ``batches``, each with the random numbers of its key."""
    dataset: Any = loader.dataset
    dataset.__getitems__ = partial(_load, dataset)  # PyTorch asks it for whole batches where it is there
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _load(dataset: Sequence, batch: Batch) -> list:
    with numbers_of(*batch.key):
        return [dataset[index] for index in batch]


def batches_after(loader: DataLoader, passed: int) -> Iterator[Any]:
    """``None`` for each of ``passed`` batches, then what ``loader`` loads; it starts when its first batch is due."""
    yield from itertools.repeat(None, passed)
    yield from loader
