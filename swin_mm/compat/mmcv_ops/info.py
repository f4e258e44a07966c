"""What ``mmcv.utils.collect_env`` prints about the ops."""

import torch
import torchvision

__all__ = ['get_compiler_version', 'get_compiling_cuda_version']


def get_compiler_version() -> str:
    """A sentence in the place of the compiler: there was none."""
    return f'none (swin_mm.compat on torchvision {torchvision.__version__})'


def get_compiling_cuda_version() -> str:
    """CUDA version of PyTorch, whose kernels the ops run on; 'not available' in a CPU build."""
    return torch.version.cuda or 'not available'
