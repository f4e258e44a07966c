"""What makes a training faster on a GPU: products in bfloat16 and TF32, channels last, compiled blocks."""

import contextlib
from collections.abc import Iterator

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from ..registry import HOOKS, OPTIM_WRAPPERS
from .model_wrappers import swin_blocks, unwrapped


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Runs forward passes under ``torch.autocast`` with bfloat16, on the model's device: a GPU or a CPU.

    bfloat16 has the range of float32, so there is no loss scale, which mmengine's ``AmpOptimWrapper`` always has.
    """

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Casts what runs inside, in the wrapper's own context."""
        with super().optim_context(model), torch.autocast(_device(model).type, torch.bfloat16):
            yield


@HOOKS.register_module()
class FastTraining(Hook):
    """Sets TF32 for products that stay float32, channels-last weights of convolutions, and compiles Swin's blocks.

    Blocks are compiled on a GPU only: on a CPU they have kernels of their own for training.
    """

    def before_run(self, runner: Runner) -> None:
        """Sets all of it, once, and logs what the device has no use for."""
        if lack := self.prepare(unwrapped(runner.model)):
            runner.logger.info(lack)

    def prepare(self, model: nn.Module) -> str | None:
        """Sets all of it for ``model``, which is not wrapped; the settings of PyTorch are those of the whole process.

        Gives a line that says what the model's device has no use for; None if it uses everything.
        """
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.allow_tf32 = True
        model.to(memory_format=torch.channels_last)
        if _device(model).type != 'cuda':
            return 'on a CPU `fast` is bfloat16 and channels last only: TF32 and compiled blocks are for GPUs'
        for block in swin_blocks(model):
            block.compile()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return None
        return 'this GPU has no bfloat16 and no TF32: of `fast` only channels last and compiled blocks can help'


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
