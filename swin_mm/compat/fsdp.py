"""Lets mmengine's FSDPStrategy clip gradients, and save and resume the state of an optimizer.

* PyTorch 2.1 takes the arguments of ``optim_state_dict_to_load`` in another order than mmengine 0.10.7 passes them.
* PyTorch 2.14 gathers each of AdamW's moments in one buffer, and takes ``offload_to_cpu`` for a copy. On a CPU it is
  none, and both moments are the second one.
* mmengine clips each process's part of the gradients by the norm of that part. The limit is for the norm of all parts.
"""

import dataclasses
from typing import Any

from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.utils import clip_grad_norm_

_init_state_dict_cfg = FSDPStrategy._init_state_dict_cfg
_build_optim_wrapper = FSDPStrategy.build_optim_wrapper


def install() -> None:
    """Replaces the three methods."""
    FSDPStrategy.build_optim_wrapper = _build_clipping_by_the_whole_norm
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


def _build_clipping_by_the_whole_norm(self: Any, optim_wrapper: Any, model: Any = None) -> Any:
    wrapper = _build_optim_wrapper(self, optim_wrapper, model)
    if getattr(wrapper, 'clip_func', None) is clip_grad_norm_:
        wrapper.clip_func = lambda parameters, **limits: model.clip_grad_norm_(**limits)
    return wrapper
