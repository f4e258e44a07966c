"""Tells ``mmcv.utils.collect_env`` what to print about the ops."""

import torch
import torchvision

__all__ = ['get_compiler_version', 'get_compiling_cuda_version']


def get_compiler_version() -> str:
    """Gives a text that stands for the compiler, since there was none."""
    return f'none (swin_mm.compat on torchvision {torchvision.__version__})'


def get_compiling_cuda_version() -> str:
    """Gives the CUDA version of PyTorch, whose kernels the ops run on; 'not available' in a CPU build."""
    return torch.version.cuda or 'not available'
