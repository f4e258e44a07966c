"""Checks that there is room for checkpoints, and outlives a full disk elsewhere."""

import itertools
import os

from mmengine.runner import Runner
from torch import nn

from ..errors import PreflightError, megabytes
from .atomic import AtomicBackend, free_bytes
from .model_wrappers import is_sharded


def check_writable(folder: str | os.PathLike) -> None:
    """Raises PreflightError if no file can be written in ``folder``; makes the folder if need be."""
    probe = os.path.join(folder, '.writable')
    try:
        AtomicBackend().put(b'0', probe)
        os.remove(probe)
    except OSError as error:
        raise PreflightError(
            f'checkpoints cannot be written to {folder}: {error.strerror}. Choose another folder with --work-dir'
        ) from error


def check_room(runner: Runner, folder: str, size: int, files: int, keep: int) -> None:
    """Raises PreflightError if ``folder`` has no room for a checkpoint of ``size`` bytes.

    Logs a warning if it has none for ``files`` of them, which the run will need, unless it keeps all (``keep`` < 1).
    """
    free = free_bytes(folder)
    if free is None:
        return
    if free < size:
        raise PreflightError(
            f'{folder} has {megabytes(free)} free, a checkpoint needs about {megabytes(size)}: make room, or '
            'choose another folder with --work-dir'
        )
    if keep > 0 and free < files * size:
        runner.logger.warning(
            f'{folder} has {megabytes(free)} free, this run will need up to {megabytes(files * size)} for '
            f'{files} more checkpoints: the disk may get full (max_keep_ckpts={keep})'
        )


def expected_size(model: nn.Module, processes: int, with_optimizer: bool) -> int:
    """Counts the bytes of ``model`` in a checkpoint, with two moments a parameter as AdamW has them."""
    # Not its state dict, which all processes of a sharded model would have to ask for.
    parts = processes if is_sharded(model) else 1
    tensors = sum(t.numel() * t.element_size() for t in itertools.chain(model.parameters(), model.buffers()))
    moments = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return parts * (tensors + moments if with_optimizer else tensors)


def outlive_full_disk_in_logging(runner: Runner) -> None:
    """Turns errors of writing losses into warnings: else a full disk would end the run, with weights not saved."""
    write = runner.visualizer.add_scalars

    def add_scalars(*args, **kwargs) -> None:
        try:
            write(*args, **kwargs)
        except OSError as error:
            runner.logger.warning(f'losses and metrics were not written to a file: {error}')

    if 'add_scalars' not in vars(runner.visualizer):  # the visualizer outlives a run, and is wrapped once
        runner.visualizer.add_scalars = add_scalars
