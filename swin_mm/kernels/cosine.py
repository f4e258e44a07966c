"""What Swin Transformer V2 does to queries and keys, so that every kernel serves its cosine attention."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_qkv(qkv: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
    """Queries and keys of length one, queries times ``scale``, and values, of ``qkv`` ``(..., 3, heads, head_dim)``.

    ``bias`` ``(3, heads, head_dim)`` is added first. ``scale`` is ``(heads, 1)``. With the result a kernel's scores are
    scaled cosines if its own ``scale`` is 1. Computed in float32 at least; the result has the dtype of ``qkv``.
    """
    x = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
    if bias is not None:
        x = x + bias
    q, k, v = x.unbind(-3)
    x = torch.stack([F.normalize(q, dim=-1) * scale, F.normalize(k, dim=-1), v], dim=-3)
    return x.to(qkv.dtype)
