"""Steps whose loss or gradients are not finite are left out on every rank, and no NaN is saved."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from ..errors import RunError, shortlist
from ..registry import HOOKS


@HOOKS.register_module()
class FiniteLosses(Hook):
    """Leaves out each step whose loss is NaN or infinite, on all ranks alike, and ends a run that has no others.

    The ranks agree before the backward pass. If one loss is not finite, no rank goes backward: weights, gradients,
    optimizer and loss scale stay as they are, buffers (running statistics) as they were before the forward pass. A step
    with such gradients is left out as well, where no loss scaler does that. The schedule of the learning rate goes on.

    With accumulated gradients a batch that is left out adds nothing. If it is the one that updates, what was
    accumulated is dropped, since the ranks have not summed it.

    On a GPU the host waits for the loss, and for the gradients' norm, before it goes on.

    Args:
        patience: Steps left out in a row after which the run ends with RunError.
    """

    priority = 'HIGHEST'  # the log takes the losses after it

    def __init__(self, patience: int = 10):
        if patience < 1:
            raise ValueError(f'patience must be >= 1, got patience={patience}')
        self.patience = patience
        self.in_a_row = self.left_out = 0
        self._reason: str | None = None
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._step: Callable[..., None] | None = None

    def before_train(self, runner: Runner) -> None:
        """Puts the checks into the optimizer wrapper. Raises TypeError for several optimizers."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(f'FiniteLosses needs one OptimWrapper, got {type(wrapper).__name__}: leave the hook out')
        self._buffers = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]
        wrapper.update_params = functools.partial(self._update, wrapper)
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            self._step = step = wrapper.step  # mmengine's schedulers have put their counter into it
            wrapper.step = functools.wraps(step)(functools.partial(self._step_if_finite, wrapper, step))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keeps the buffers as they are."""
        for buffer, kept in self._buffers:
            kept.copy_(buffer)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None):
        """Takes the losses of a step that was left out off the log, names its pictures. Raises RunError."""
        reason, self._reason = self._reason, None
        if reason is None:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.left_out += 1
        losses = [name for name, value in (outputs or {}).items() if not torch.as_tensor(value).isfinite().all()]
        files = shortlist(images_in(data_batch)) or 'pictures without a path'
        if outputs:
            outputs.clear()  # one NaN would make a whole window of the log NaN
        blamed = reason == 'gradients' or bool(losses)
        what = (
            f'{shortlist(losses) or reason} not finite for {files}'
            if blamed
            else 'the loss of another rank is not finite'
        )
        # Only errors of the other ranks are shown.
        runner.logger.log(
            logging.ERROR if blamed else logging.WARNING,
            f'step {runner.iter + 1} is left out on all ranks: {what} (rank {get_rank()}); '
            f'{self.in_a_row} in a row, {self.left_out} in all',
        )
        if self.in_a_row >= self.patience:
            raise RunError(self._last_words(runner, what))

    def after_train(self, runner: Runner) -> None:
        """Takes the checks out."""
        del runner.optim_wrapper.update_params
        if self._step is not None:
            runner.optim_wrapper.step = self._step

    def _update(self, wrapper: OptimWrapper, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if _on_all_ranks(loss.detach().isfinite().all()):
            type(wrapper).update_params(wrapper, loss, *args, **kwargs)
            return
        self._reason = 'loss'
        for buffer, kept in self._buffers:
            buffer.copy_(kept)
        wrapper._inner_count += 1  # else done by `backward`
        if wrapper.should_update():
            wrapper.zero_grad()

    def _step_if_finite(self, wrapper: OptimWrapper, step: Callable[..., None], **kwargs: Any) -> None:
        if _on_all_ranks(_gradient_norm(wrapper).isfinite()):
            step(**kwargs)
        else:
            self._reason = 'gradients'

    def _last_words(self, runner: Runner, what: str) -> str:
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
    """Refuses to save a NaN in weights, their averages or the optimizer's state, and infinite weights."""

    priority = 'LOWEST'  # other hooks put in what they save

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises RunError, so that the checkpoints before it are kept."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
        saved = {key: value for key, value in checkpoint.items() if key == 'optimizer' or key.endswith('state_dict')}
        broken += [name for name, tensor in _tensors_in(saved) if tensor.isnan().any()]
        if broken:
            raise RunError(
                f'a checkpoint must not hold NaN or infinite weights, got {shortlist(broken)} at iteration '
                f'{runner.iter}: nothing is saved, the checkpoints in {runner.work_dir} are as they were. Go on from '
                'the last one with a lower learning rate'
            )


def images_in(batch: Any) -> list[str]:
    """The paths (``img_path``) of the samples in a batch, however it is nested; empty where there are none."""
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        return [path for item in batch for path in images_in(item)]
    path = getattr(batch, 'img_path', None)
    return [] if path is None else [str(path)]


def _on_all_ranks(finite: Tensor) -> bool:
    broken = (~finite).float()
    all_reduce(broken, 'max')
    return not broken.item()


def _gradient_norm(wrapper: OptimWrapper) -> Tensor:
    """The norm of all gradients; without a limit, clipping multiplies them by 1."""
    parameters = [parameter for group in wrapper.optimizer.param_groups for parameter in group['params']]
    return nn.utils.clip_grad_norm_(parameters, float('inf'))


def _tensors_in(state: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield name, state
    elif isinstance(state, Mapping | list | tuple):
        for key, item in state.items() if isinstance(state, Mapping) else enumerate(state):
            yield from _tensors_in(item, f'{name}.{key}' if name else str(key))
