"""Resizes weights for another window, another size of pretraining or another number of channels."""

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError

FIRST_CONV = ('repeat', 'average', 'sum')


def resize_table(table: Tensor, window: tuple[int, int]) -> Tensor:
    """Resizes a relative position bias table to ``((2h - 1) * (2w - 1), heads)`` for ``window`` (h, w), bicubic.

    The official rule (``mmcv_custom/checkpoint.py: load_checkpoint``). Raises CheckpointError unless ``table`` is of a
    square window.
    """
    side = isqrt(table.shape[0])
    if table.ndim != 2 or side * side != table.shape[0] or side % 2 == 0:
        raise CheckpointError(f'a bias table must be of a square window to be resized, got shape {tuple(table.shape)}')
    size = [2 * length - 1 for length in window]
    return _bicubic(table.T.unflatten(1, (side, side))[None], size)[0].flatten(1).T.contiguous()


def resize_embedding(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resizes an absolute position embedding to ``(1, C, H, W)`` for ``grid`` (H, W), bicubic."""
    if embedding.ndim != 4:
        raise CheckpointError(f'absolute_pos_embed must be (1, C, H, W), got {tuple(embedding.shape)}')
    return _bicubic(embedding, list(grid))


def _bicubic(maps: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(maps.float(), size=size, mode='bicubic').to(maps.dtype)


def adapt_channels(weight: Tensor, channels: int, how: str = 'repeat') -> Tensor:
    """Turns the first convolution ``(dim, 3, h, w)`` of an RGB network into one for images of ``channels`` channels.

    'repeat': R, G, B, R, ... scaled by ``3 / channels`` to answer as strongly as before; for one channel, which stands
    for three equal ones, their sum. 'average': every channel gets the sum over R, G, B divided by ``channels``, and
    equal channels are answered as before. 'sum': every channel gets that sum, where one channel is on at a time.
    """
    if how not in FIRST_CONV:
        raise CheckpointError(f'first_conv must be one of {FIRST_CONV}, got {how!r}')
    if weight.ndim != 4 or weight.shape[1] != 3:
        raise CheckpointError(f'only an RGB convolution (dim, 3, h, w) is adapted, got {tuple(weight.shape)}')
    total = weight.sum(1, keepdim=True)
    if how == 'sum':
        return total.repeat(1, channels, 1, 1)
    if how == 'average' or channels == 1:
        return (total / channels).repeat(1, channels, 1, 1)
    return weight[:, torch.arange(channels) % 3] * (3 / channels)
