"""Resumes an interrupted run so that it becomes the run that it would have been."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader

from ..errors import PreflightError
from ..registry import HOOKS
from .around import around_run
from .flexible import begin_before_loading
from .numbered_batches import MODEL, NumberedBatches, batches_after, numbered_loader, seed_everything


@HOOKS.register_module()
class ContinuedRun(Hook):
    """Makes a resumed run equal to one that was never interrupted; on a CPU, to the bit.

    The interruption may come at any iteration. mmengine restores weights, averaged weights, optimizer, schedulers, loss
    scale and log. It restores neither the random states nor the place in the data. Here both follow from the run's seed
    and the number of the iteration:

    * Before each iteration the random states of every process are seeded with (seed, rank, iteration).
    * Each batch is loaded with random numbers of its own, whichever process loads it.
    * A resumed run counts the batches that were trained on; it does not load them.

    The patience of an ``EarlyStoppingHook`` goes on as well.

    A run without a seed draws one, as before, and its checkpoints keep it.

    Two things are not restored: the gradients of a half accumulated step, and what a pipeline or a model keeps outside
    of its ``state_dict``, such as the images of mmdet's ``CachedMosaic``.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._seed = 0
        self._batches: NumberedBatches | None = None
        self._passed = 0  # batches of the first epoch that were trained on before the interruption
        self._known: dict[str, int] | None = None  # what the checkpoint says about its run

    def before_run(self, runner: Runner) -> None:
        """Restores the loop after this run, whatever ends it."""
        if isinstance(runner._train_loop, BaseLoop):
            around_run(self, runner._train_loop, functools.partial(_restored, runner._train_loop))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises PreflightError if the run to be resumed had another batch size or other data."""
        if not isinstance(runner, Runner):
            begin_before_loading(runner)
        if not (runner._resume and isinstance(runner._train_loop, BaseLoop)):
            return
        meta = checkpoint.get('meta') or {}
        self._known = meta.get('run')
        if self._known is not None:
            self._check(runner, self._known, run_of(runner))
        resume_early_stopping(runner, meta.get('early_stopping') or [])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds the result of `run_of` as ``meta['run']``, and the state of early stopping."""
        checkpoint['meta']['run'] = run_of(runner)
        checkpoint['meta']['early_stopping'] = early_stopping_of(runner)

    def before_train(self, runner: Runner) -> None:
        """Makes the loop begin with the batch that is due."""
        loop, loader = runner.train_loop, runner.train_dataloader
        rank, _ = get_dist_info()
        seeds = [runner.seed]  # rank 0's, if every rank has its own
        broadcast_object_list(seeds)
        self._seed = seeds[0]
        iterations = isinstance(loop, IterBasedTrainLoop)
        if loader.batch_sampler is None or not (iterations or isinstance(loop, EpochBasedTrainLoop)):
            what = f'{type(loop).__name__} with {type(loader.dataset).__name__}'
            runner.logger.warning(f'the order of the data is not continued where a run resumes: {what} is not known')
            return
        self._batches = NumberedBatches(_fresh_batches(runner, self._seed), self._seed, rank, endless=iterations)
        loop.dataloader = numbered_loader(loader, self._batches)
        if iterations:
            self._batches.start_at(loop.iter, passed=loop.iter)
            loop.dataloader_iterator = batches_after(loop.dataloader, passed=loop.iter)
            loader._iterator = None  # ends its workers, which the loop has started and which may be persistent
            return
        # A checkpoint without meta['run'] counts as saved at the end of an epoch.
        self._passed = loop.iter - loop.epoch * len(loader) if self._known else 0
        loop.run_iter = functools.partial(_run_iter_of_whole_epoch, self, loop.run_iter)

    def before_train_epoch(self, runner: Runner) -> None:
        """Makes the epoch begin with the batch that is due."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop) and self._batches is not None:
            self._batches.start_at(runner.iter, self._passed)

    def after_train_epoch(self, runner: Runner) -> None:
        """Lets the next epochs begin with their first batch."""
        self._passed = 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seeds every random state of this process."""
        seed_everything(self._seed, get_dist_info()[0], MODEL, runner.iter)

    def _check(self, runner: Runner, saved: dict[str, int], now: dict[str, int]) -> None:
        by_epoch = isinstance(runner._train_loop, EpochBasedTrainLoop)
        if saved['batch_size'] != now['batch_size']:
            raise PreflightError(
                'the batch size must be that of the checkpoint for its run to go on, got '
                f'{now["batch_size"]} = {now["processes"]} processes x {now["batch_size"] // now["processes"]} images '
                f'where the checkpoint has {saved["batch_size"]} from {saved["processes"]} processes: set '
                'train_dataloader.batch_size, or start a new run from its weights with load_from'
            )
        if saved['iterations_per_epoch'] != now['iterations_per_epoch']:
            change = f'{saved["iterations_per_epoch"]} -> {now["iterations_per_epoch"]} iterations per epoch'
            if by_epoch:
                raise PreflightError(
                    f'the data must be those of the checkpoint for its run to go on, got {change}: name the same data, '
                    'or start a new run from its weights with load_from'
                )
            print_log(f'resumed with other data ({change}): their order is a new one', 'current', logging.WARNING)
        if saved['processes'] != now['processes']:
            print_log(
                f'resumed with {now["processes"]} processes instead of {saved["processes"]}, each with '
                f'{now["batch_size"] // now["processes"]} images: the same batch size, other random numbers',
                'current',
                logging.WARNING,
            )


@contextlib.contextmanager
def _restored(loop: BaseLoop) -> Iterator[None]:
    loader = loop.dataloader
    try:
        yield
    finally:
        loop.dataloader = loader
        vars(loop).pop('run_iter', None)


def run_of(runner: Runner) -> dict[str, int]:
    """Gives what a resume compares: ``processes``, ``batch_size`` of all of them together, ``iterations_per_epoch``."""
    loader: DataLoader = runner.train_dataloader
    batch = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 1
    processes = runner.world_size
    return dict(processes=processes, batch_size=processes * batch, iterations_per_epoch=len(loader))


def early_stopping_of(runner: Runner) -> list[dict]:
    """Gives what each ``EarlyStoppingHook`` of a run has counted, and whether the run is to end after this epoch."""
    stop = runner.train_loop.stop_training
    hooks = _early_stopping_hooks(runner)
    return [dict(best_score=float(hook.best_score), wait_count=hook.wait_count, stop=stop) for hook in hooks]


def resume_early_stopping(runner: Runner, states: list[dict]) -> None:
    """Lets each ``EarlyStoppingHook`` count on from its state, as `early_stopping_of` gave it."""
    for hook, state in zip(
        [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)], states, strict=False
    ):
        hook.best_score, hook.wait_count = state['best_score'], state['wait_count']
        runner.train_loop.stop_training |= state['stop']


def _early_stopping_hooks(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _fresh_batches(runner: Runner, seed: int) -> Any:
    """Gives the training's batch sampler in its state before the first batch, with the run's ``seed``.

    mmengine built the loader before it read the seed in the checkpoint, and its iteration-based loop has already drawn
    from the sampler.
    """
    loader, settings = runner.train_dataloader, runner._train_dataloader
    if not isinstance(settings, dict) or not isinstance(settings.get('sampler'), dict):
        return loader.batch_sampler  # the user built it, and knows its seed
    # Not by `Runner.build_dataloader`, which does the same and would copy the data set.
    sampler = DATA_SAMPLERS.build(settings['sampler'], default_args=dict(dataset=loader.dataset, seed=seed))
    if settings.get('batch_sampler') is None:
        return BatchSampler(sampler, loader.batch_size, loader.drop_last)
    default = dict(sampler=sampler, batch_size=settings.get('batch_size'))
    return DATA_SAMPLERS.build(settings['batch_sampler'], default_args=default)


def _run_iter_of_whole_epoch(hook: ContinuedRun, run_iter: Any, idx: int, data_batch: Any) -> None:
    """Runs an iteration of a resumed epoch under its number in the whole epoch, which logs and hooks expect."""
    run_iter(idx + hook._passed, data_batch)
