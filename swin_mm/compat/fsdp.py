"""Lets mmengine's FSDPStrategy resume an optimizer: PyTorch 2.1 has another order of arguments than mmengine passes."""

from typing import Any

from mmengine._strategy import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel


def install() -> None:
    """Replaces the one method that passes them."""
    FSDPStrategy.load_optim_state_dict = _load_optim_state_dict


def _load_optim_state_dict(self: Any, state_dict: dict) -> None:
    optimizer = self.optim_wrapper.optimizer
    own = FullyShardedDataParallel.optim_state_dict_to_load(
        model=self.model, optim=optimizer, optim_state_dict=state_dict
    )
    self.optim_wrapper.load_state_dict(own)
