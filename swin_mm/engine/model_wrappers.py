"""Finds the parts of a model, inside what wraps it for several processes."""

import re
from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType

BLOCK = re.compile(r'backbone\.layers\.\d+\.blocks\.\d+')


def swin_blocks(model: nn.Module) -> list[nn.Module]:
    """Gives the blocks of the Swin backbone of ``model``, which is not wrapped; none for another backbone."""
    return [module for name, module in model.named_modules() if BLOCK.fullmatch(name)]


def unwrapped(model: Any) -> nn.Module:
    """Gives the model inside a wrapper such as ``MMDistributedDataParallel``, or ``model`` itself."""
    return model.module if is_model_wrapper(model) else model


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of every parameter only, as under FSDP."""
    return isinstance(model, FullyShardedDataParallel)


def full_state(model: nn.Module) -> dict:
    """Gives the whole state dict of a sharded ``model`` on the CPU, on every process; all of them must call it."""
    whole = FullStateDictConfig(offload_to_cpu=True, rank0_only=False)
    with FullyShardedDataParallel.state_dict_type(model, StateDictType.FULL_STATE_DICT, whole):
        return model.state_dict()
