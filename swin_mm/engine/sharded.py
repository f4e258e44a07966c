"""FSDP around each block of Swin, so that one block at a time is whole on a GPU."""

from functools import partial
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import MMFullyShardedDataParallel
from torch import nn
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy

from ..registry import MODEL_WRAPPERS
from .model_wrappers import swin_blocks


@MODEL_WRAPPERS.register_module()
class ShardedBlocks(MMFullyShardedDataParallel):
    """mmengine's FSDP wrapper, with a shard for each block of Swin and one for the rest of the model.

    ``kwargs`` are those of ``MMFullyShardedDataParallel``. On a machine without GPUs the parts lie in its memory.
    """

    def __init__(self, module: nn.Module, **kwargs: Any):
        blocks = set(swin_blocks(module))
        if get_device() == 'cpu':
            kwargs['device_id'] = torch.device('cpu')  # mmengine passes the number of a GPU
        super().__init__(
            module, auto_wrap_policy=partial(lambda_auto_wrap_policy, lambda_fn=blocks.__contains__), **kwargs
        )
