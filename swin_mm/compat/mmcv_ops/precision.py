"""Chooses the precision in which the ops compute."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Gives ``tensor``, as float32 if it is float16 or bfloat16.

    Sampling positions do not fit into 16 bits (a step of 1 pixel above 1024 in float16), and several CPU kernels
    have no 16-bit form.
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
