"""Says which image a model or its pipeline failed on, in one sentence."""

import numpy as np
import torch

from ..errors import one_line


def named(error: Exception, name: str, pixels: np.ndarray, what: str) -> RuntimeError:
    """Puts the image's ``name`` and size, and ``what`` failed, before an error; says so if memory ran out."""
    height, width = pixels.shape[:2]
    text = one_line(error)
    if _is_out_of_memory(error):
        return RuntimeError(f'{name}: out of memory with {width}x{height} pixels, take a smaller picture: {text}')
    return RuntimeError(f'{name}: {what} with {width}x{height} pixels: {type(error).__name__}: {text}')


def cause(error: Exception) -> Exception | None:
    """``error``, unless memory ran out: the frames that such an error keeps hold what fills the memory."""
    return None if _is_out_of_memory(error) else error


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or 'allocate memory' in str(error)
