"""Weights of a whole model: refused where a run would go on with others, and said where it starts with some of them."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from ..checkpoints.containers import contents, tensors
from ..checkpoints.dialects import CheckpointError, few
from ..registry import HOOKS

BACKBONE = 'backbone.'


@HOOKS.register_module()
class CheckedWeights(Hook):
    """Loads a checkpoint's weights before mmengine does, which leaves out in silence what does not fit.

    A test and a resumed training need every tensor, a training that starts from a checkpoint (``load_from``) those that
    are there: a head for other classes starts fresh.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leaves in ``checkpoint`` the loaded weights, as the model names them. Raises CheckpointError."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model = model.module if isinstance(model, BaseTTAModel) else model
        starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        try:
            load_weights(model, checkpoint, whole=not starts)
        except CheckpointError as error:
            raise CheckpointError(f'{runner._load_from or runner.work_dir}: {error}') from error
        checkpoint['state_dict'] = model.state_dict()


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], whole: bool = True) -> None:
    """Loads what ``checkpoint``, the content of a file, has for ``model``, a detector, a segmentor or a backbone alone.

    With or without container and prefix; a file of the backbone alone fills the backbone. Unless ``whole``, tensors
    outside the backbone may be absent or of another shape: they stay as they are, and the log says which. Raises
    CheckpointError, naming some of them, if they may not, or if nothing fits.
    """
    own = model.state_dict()
    state = _of_model(checkpoint, own)
    shapes = {key: (value.shape, own[key].shape) for key, value in state.items() if key in own}
    # Inside the backbone shapes may differ: it knows what to resize, and refuses the rest.
    other = {key: pair for key, pair in shapes.items() if pair[0] != pair[1] and not key.startswith(BACKBONE)}
    if whole and other:
        raise CheckpointError(_other_shapes(other, checkpoint))
    result = model.load_state_dict({key: value for key, value in state.items() if key not in other}, strict=False)
    missing = [key for key in result.missing_keys if key not in other]
    filled = len(own) - len(missing) - len(other)
    if not filled or (whole and missing):
        raise CheckpointError(
            f'the checkpoint fills {filled} of {len(own)} tensors of the model. Missing: {few(missing)}; '
            f'of no use: {few(result.unexpected_keys) or "none"}. Choose the config that it was trained with'
        )
    for keys, text in (
        ([f'{key} {_change(pair)}' for key, pair in other.items()], 'start fresh, they have another shape'),
        (missing, 'start fresh, the checkpoint does not have them'),
        (result.unexpected_keys, 'of the checkpoint are not used'),
    ):
        if keys:
            print_log(f'{len(keys)} tensors {text}: {few(keys)}', 'current', logging.WARNING)


def _of_model(checkpoint: Mapping[str, Any], own: Iterable[str]) -> dict[str, Tensor]:
    """The tensors in ``checkpoint``; those of a backbone alone under the name that it has in the model."""
    state = {key.removeprefix('module.'): value for key, value in tensors(contents(checkpoint)).items()}
    parts = {key.partition('.')[0] for key in own}
    alone = 'backbone' in parts and not any(key.partition('.')[0] in parts for key in state)
    return {BACKBONE + key: value for key, value in state.items()} if alone else state


def _other_shapes(other: Mapping[str, tuple], checkpoint: Mapping[str, Any]) -> str:
    meta = checkpoint.get('meta') or {}
    names = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES')
    trained = f' It was trained on {len(names)} classes ({few(names)}).' if names else ''
    listed = few([f'{key} {_change(pair)}' for key, pair in other.items()])
    return (
        f'{len(other)} tensors of the checkpoint have other shapes than those of the model: {listed}.{trained} Choose '
        'the config that it was trained with, or set its num_classes, in a file or with --cfg-options'
    )


def _change(pair: tuple) -> str:
    return f'{tuple(pair[0])} -> {tuple(pair[1])}'
