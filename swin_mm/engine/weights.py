"""Checks that a test or a resumed training gets every weight of its checkpoint, and a new training all that fit."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from ..checkpoints.load import check_names, load_weights
from ..errors import CheckpointError
from ..registry import HOOKS
from .model_wrappers import full_state, is_sharded, unwrapped


@HOOKS.register_module()
class CheckedWeights(Hook):
    """Loads the weights of a checkpoint before mmengine does, which silently leaves out what does not fit.

    A test and a resumed training need every tensor. A training that starts from a checkpoint (``load_from``) takes
    those that are there: a head for other classes starts fresh.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Loads the weights, and leaves them in ``checkpoint`` under the model's names. Raises CheckpointError."""
        if is_sharded(runner.model) and not runner.cfg.get('model'):
            runner.logger.warning('the weights of the checkpoint are not checked: FSDP, and no model in the config')
            return
        model = _plain_twin(runner) if is_sharded(runner.model) else unwrapped(runner.model)
        model = model.module if isinstance(model, BaseTTAModel) else model
        starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        try:
            load_weights(model, checkpoint, whole=not starts)
            if runner._resume:
                check_names(model, checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f'{runner._load_from or runner.work_dir}: {error}') from error
        checkpoint['state_dict'] = model.state_dict()


def _plain_twin(runner: Runner) -> nn.Module:
    """Builds the model of a run once more, whole and on the CPU, with the weights that the sharded one has now.

    FSDP fills the sharded model from the state dict of this one.
    """
    twin = MODELS.build(runner.cfg.model)
    twin.load_state_dict(full_state(runner.model))
    return twin
