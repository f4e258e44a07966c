"""What a checkpoint file holds around its state dict: containers, optimizers, the prefix of a wrapper."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .dialects import locate

# The first that is there: an averaged model is the one that was evaluated.
CONTAINERS = ('state_dict_ema', 'state_dict', 'model')


def unwrap(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """The state dict in ``checkpoint``, and the prefix of the Swin backbone in it ('', 'backbone.', 'swin.', ...).

    NumPy arrays become tensors, what is no tensor is left out, and so is the ``module.`` of a parallel wrapper. Raises
    CheckpointError if there are no tensors, or no Swin Transformer (V1) or several of them.
    """
    state = {str(key).removeprefix('module.'): value for key, value in tensors(contents(checkpoint)).items()}
    if not state:
        raise CheckpointError(f'the checkpoint holds no tensors: its keys are {list(checkpoint)[:4]}')
    return state, locate(state)[1]


def contents(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The innermost state dict of ``checkpoint``, which may be that itself."""
    while inner := next((checkpoint[key] for key in CONTAINERS if isinstance(checkpoint.get(key), Mapping)), None):
        checkpoint = inner
    return checkpoint


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of ``state``, and its NumPy arrays as such."""
    arrays = {key: value for key, value in state.items() if hasattr(value, '__array__') and hasattr(value, 'shape')}
    return {key: value if isinstance(value, Tensor) else torch.as_tensor(value) for key, value in arrays.items()}
