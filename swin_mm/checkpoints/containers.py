"""Takes the state dict out of what surrounds it in a checkpoint: containers, optimizers, the prefix of a wrapper."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .locate import locate

# The first that is there: an averaged model is the one that was evaluated.
CONTAINERS = ('state_dict_ema', 'state_dict', 'model')


def unwrap(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Gives the state dict in ``checkpoint``, and the prefix of its Swin backbone: '', 'backbone.', 'swin.', ...

    NumPy arrays become tensors. Other values are left out, and so is ``module.``, the prefix of a parallel wrapper.
    Raises CheckpointError if there are no tensors, no Swin Transformer or several of them.
    """
    state = {str(key).removeprefix('module.'): value for key, value in tensors(contents(checkpoint)).items()}
    if not state:
        raise CheckpointError(f'the checkpoint holds no tensors: its keys are {list(checkpoint)[:4]}')
    return state, locate(state)[1]


def contents(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Gives the innermost state dict of ``checkpoint``; ``checkpoint`` itself if it has no container."""
    while inner := next((checkpoint[key] for key in CONTAINERS if isinstance(checkpoint.get(key), Mapping)), None):
        checkpoint = inner
    return checkpoint


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Gives the tensors of ``state``; NumPy arrays become tensors."""
    arrays = {key: value for key, value in state.items() if hasattr(value, '__array__') and hasattr(value, 'shape')}
    return {key: value if isinstance(value, Tensor) else torch.as_tensor(value) for key, value in arrays.items()}
