"""Whether a graph is recorded. It keeps a branch on a size as the example took it, and is wrong at other sizes."""

import torch


def is_traced() -> bool:
    """Whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` records what runs."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
