"""Checks that a test or a resumed training gets every weight of its checkpoint, and a new training all that fit."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from ..checkpoints.load import load_weights
from ..errors import CheckpointError
from ..registry import HOOKS


@HOOKS.register_module()
class CheckedWeights(Hook):
    """Loads the weights of a checkpoint before mmengine does, which silently leaves out what does not fit.

    A test and a resumed training need every tensor. A training that starts from a checkpoint (``load_from``) takes
    those that are there: a head for other classes starts fresh.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Loads the weights, and leaves them in ``checkpoint`` under the model's names. Raises CheckpointError."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model = model.module if isinstance(model, BaseTTAModel) else model
        starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        try:
            load_weights(model, checkpoint, whole=not starts)
        except CheckpointError as error:
            raise CheckpointError(f'{runner._load_from or runner.work_dir}: {error}') from error
        checkpoint['state_dict'] = model.state_dict()
