"""Lets mmengine's FSDPStrategy save and resume the state of an optimizer.

* PyTorch 2.1 takes the arguments of ``optim_state_dict_to_load`` in another order than mmengine 0.10.7 passes them.
* PyTorch 2.14 gathers each of AdamW's moments in one buffer, and takes ``offload_to_cpu`` for a copy. On a CPU it is
  none, and both moments are the second one.
"""

import dataclasses
from typing import Any

from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from torch.distributed.fsdp import FullyShardedDataParallel

_init_state_dict_cfg = FSDPStrategy._init_state_dict_cfg


def install() -> None:
    """Replaces the two methods."""
    FSDPStrategy.load_optim_state_dict = _load_optim_state_dict
    FSDPStrategy._init_state_dict_cfg = _init_state_dict_cfg_on_a_cpu_too


def _load_optim_state_dict(self: Any, state_dict: dict) -> None:
    optimizer = self.optim_wrapper.optimizer
    own = FullyShardedDataParallel.optim_state_dict_to_load(
        model=self.model, optim=optimizer, optim_state_dict=state_dict
    )
    self.optim_wrapper.load_state_dict(own)


def _init_state_dict_cfg_on_a_cpu_too(self: Any, state_dict_cfg: str | dict) -> None:
    _init_state_dict_cfg(self, state_dict_cfg)
    if get_device() == 'cpu':
        self.optim_state_dict_config = dataclasses.replace(self.optim_state_dict_config, offload_to_cpu=False)
