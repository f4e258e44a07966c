"""What makes a training faster on a GPU: products in bfloat16 and TF32, channels last, compiled blocks."""

import contextlib
from collections.abc import Iterator

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from ..registry import HOOKS, OPTIM_WRAPPERS
from .model_wrappers import swin_blocks, unwrapped


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Runs forward passes under ``torch.autocast`` with bfloat16, on a GPU and on a CPU.

    bfloat16 has the range of float32, so there is no loss scale, which mmengine's ``AmpOptimWrapper`` always has.
    """

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Casts what runs inside, in the wrapper's own context."""
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield


@HOOKS.register_module()
class FastTraining(Hook):
    """Sets TF32 for products that stay float32, channels-last weights of convolutions, and compiles Swin's blocks.

    Blocks are compiled on a GPU only: on a CPU they have kernels of their own for training.
    """

    def before_run(self, runner: Runner) -> None:
        """Sets all of it, once; the settings of PyTorch are those of the whole process."""
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.allow_tf32 = True
        model = unwrapped(runner.model)
        model.to(memory_format=torch.channels_last)
        if get_device() == 'cuda':
            for block in swin_blocks(model):
                block.compile()
        else:
            runner.logger.info('FastTraining compiles no blocks without a GPU')
