"""Leaves out steps whose loss or gradients are not finite, on every rank, and refuses to save a NaN."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook, RuntimeInfoHook
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from ..errors import RunError, shortlist
from ..registry import HOOKS
from .around import around_run
from .model_wrappers import is_sharded, unwrapped


@HOOKS.register_module()
class FiniteLosses(Hook):
    """Leaves out each step whose loss is NaN or infinite, on all ranks alike, and ends a run that has no others.

    The ranks agree before the backward pass. If one loss is not finite, no rank runs the backward pass. Weights,
    gradients, optimizer and loss scale then stay as they are, and buffers (running statistics) go back to their values
    before the forward pass. A step with NaN or infinite gradients is left out as well, unless a loss scaler does that.
    The schedule of the learning rate goes on.

    With accumulated gradients, a batch that is left out adds nothing. If that batch is the one that updates the
    weights, the accumulated gradients are dropped, since the ranks have not summed them.

    On a GPU the host waits for the loss, and for the norm of the gradients, before it goes on.

    Args:
        patience: Steps left out in a row after which the run ends with RunError.
    """

    priority = 'HIGHEST'  # it comes before mmengine's RuntimeInfoHook, which logs the losses

    def __init__(self, patience: int = 10):
        if patience < 1:
            raise ValueError(f'patience must be >= 1, got patience={patience}')
        self.patience = patience
        self.in_a_row = self.left_out = 0
        self._reason: str | None = None
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._was_left_out = False

    def before_run(self, runner: Runner) -> None:
        """Puts the checks around the training loop. Raises TypeError if there are several optimizers."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            name = type(runner.optim_wrapper).__name__
            raise TypeError(f'FiniteLosses needs one OptimWrapper, got {name}: leave the hook out')
        around_run(self, runner._train_loop, functools.partial(self._checking, runner))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Copies the buffers, to restore them if this step is left out."""
        for buffer, kept in self._buffers:
            kept.copy_(buffer)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None):
        """Logs a step that was left out, with its images, instead of its losses. Raises RunError after ``patience``."""
        reason, self._reason = self._reason, None
        self._was_left_out = reason is not None
        if reason is None:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.left_out += 1
        losses = [name for name, value in (outputs or {}).items() if not torch.as_tensor(value).isfinite().all()]
        files = shortlist(images_in(data_batch)) or 'pictures without a path'
        # An error on the rank at fault: of the ranks but the first, only errors are shown.
        if losses or reason == 'gradients':
            level, what = logging.ERROR, f'{shortlist(losses) or reason} not finite for {files}'
        else:
            level, what = logging.WARNING, 'the loss of another rank is not finite'
        runner.logger.log(
            level,
            f'step {runner.iter + 1} is left out on all ranks: {what} (rank {get_rank()}); '
            f'{self.in_a_row} in a row, {self.left_out} in all',
        )
        if self.in_a_row >= self.patience:
            raise RunError(self._explain_end(runner, what))

    @contextlib.contextmanager
    def _checking(self, runner: Runner) -> Iterator[None]:
        """Has the optimizer wrapper check each step, and keeps the losses of those left out from the log."""
        wrapper = runner.optim_wrapper
        self._buffers = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]
        patched: list[tuple[Any, str]] = [(wrapper, 'update_params')]
        wrapper.update_params = functools.partial(self._update, wrapper)
        scaler = getattr(wrapper, 'loss_scaler', None)
        step = None
        if scaler is None or not scaler.is_enabled():
            step = wrapper.step  # mmengine's schedulers have wrapped it to count steps
            wrapper.step = functools.wraps(step)(functools.partial(self._step_if_finite, wrapper, step))
        for hook in runner.hooks:
            if isinstance(hook, RuntimeInfoHook):
                hook.after_train_iter = functools.partial(self._log_if_taken, hook.after_train_iter)
                patched.append((hook, 'after_train_iter'))
        try:
            yield
        finally:
            for owner, name in patched:
                delattr(owner, name)
            if step is not None:
                wrapper.step = step

    def _log_if_taken(self, log: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        if not self._was_left_out:  # one NaN would make a whole window of the log NaN
            log(*args, **kwargs)

    def _update(self, wrapper: OptimWrapper, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if _is_true_on_all_ranks(loss.detach().isfinite().all()):
            type(wrapper).update_params(wrapper, loss, *args, **kwargs)
            return
        self._reason = 'loss'
        for buffer, kept in self._buffers:
            buffer.copy_(kept)
        wrapper._inner_count += 1  # as `backward` would have done
        if wrapper.should_update():
            wrapper.zero_grad()

    def _step_if_finite(self, wrapper: OptimWrapper, step: Callable[..., None], **kwargs: Any) -> None:
        if _is_true_on_all_ranks(_gradient_norm(wrapper).isfinite()):
            step(**kwargs)
        else:
            self._reason = 'gradients'

    def _explain_end(self, runner: Runner, what: str) -> str:
        broken = [name for name, weight in runner.model.named_parameters() if not weight.isfinite().all()]
        if broken:
            advice = f'The weights are not finite either ({shortlist(broken)}): start from others'
        else:
            advice = 'The weights are finite: lower the learning rate, or look at these pictures and their annotations'
        return (
            f'{self.in_a_row} steps in a row were left out (FiniteLosses(patience={self.patience})), the last one '
            f'because {what}. {advice}. The checkpoints in {runner.work_dir} are as they were'
        )


@HOOKS.register_module()
class FiniteCheckpoints(Hook):
    """Refuses to save NaN in weights, averaged weights or the optimizer's state, and to save infinite weights."""

    priority = 'LOWEST'  # it comes after the hooks that add to the checkpoint

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises RunError for such a checkpoint, so that the earlier ones are kept."""
        model = unwrapped(runner.model)
        broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
        saved = {key: value for key, value in checkpoint.items() if key == 'optimizer' or key.endswith('state_dict')}
        broken += [name for name, tensor in _float_tensors_in(saved) if tensor.isnan().any()]
        is_whole = torch.tensor(not broken)
        # Under FSDP every process saves its part, and one that went on alone would wait for the others.
        if not (_is_true_on_all_ranks(is_whole) if is_sharded(runner.model) else is_whole):
            raise RunError(
                f'a checkpoint must not hold NaN or infinite weights, got {shortlist(broken) or "some"} at iteration '
                f'{runner.iter}: nothing is saved, the checkpoints in {runner.work_dir} are as they were. Go on from '
                'the last one with a lower learning rate'
            )


def images_in(batch: Any) -> list[str]:
    """Gives the paths (``img_path``) of the samples in a batch, however it is nested; empty if they have none."""
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        return [path for item in batch for path in images_in(item)]
    path = getattr(batch, 'img_path', None)
    return [] if path is None else [str(path)]


def _is_true_on_all_ranks(condition: Tensor) -> bool:
    violated = (~condition).float()
    all_reduce(violated, 'max')
    return not violated.item()


def _gradient_norm(wrapper: OptimWrapper) -> Tensor:
    """Gives the norm of all gradients; clipping with an infinite limit multiplies them by 1."""
    parameters = [parameter for group in wrapper.optimizer.param_groups for parameter in group['params']]
    return nn.utils.clip_grad_norm_(parameters, float('inf'))


def _float_tensors_in(state: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """Yields (dotted name, tensor) for each floating-point tensor in nested mappings and sequences."""
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield name, state
        return
    entries: Iterable[tuple[Any, Any]]
    if isinstance(state, Mapping):
        entries = state.items()
    elif isinstance(state, list | tuple):
        entries = enumerate(state)
    else:
        return
    for key, item in entries:
        yield from _float_tensors_in(item, f'{name}.{key}' if name else str(key))
