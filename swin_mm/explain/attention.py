"""Where a token looks: its attention weights in every block."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..backbone import SwinTransformer
from ..backbone.attention.window import WindowAttention
from .view import Point, View, stride_of


class Attended(NamedTuple):
    """The attention of one token in one block.

    ``token``: its (row, column). ``weights`` ``(heads, H, W)``: on each token of the map, 0 outside of its window.
    They add up to 1 in each head, less what falls on padding.
    """

    stage: int
    block: int
    shifted: bool
    token: tuple[int, int]
    weights: Tensor


def attention_of(backbone: SwinTransformer, view: View, point: Point) -> list[Attended]:
    """Gives the attention of the token at ``point`` (x, y), in pixels of the image, in every block of ``backbone``."""
    found: list[Attended] = []

    def record(stage: int, block: int) -> Any:
        def hook(attn: WindowAttention, arguments: tuple[Tensor, ...]) -> None:
            token = view.place(point, stride_of(backbone, stage))
            found.append(Attended(stage, block, any(attn.shift), token, _weights(attn, arguments[0], token)))

        return hook

    handles = [
        block.get_submodule('attn').register_forward_pre_hook(record(i, j))
        for i, stage in enumerate(backbone.layers)
        for j, block in enumerate(stage.get_submodule('blocks').children())
    ]
    try:
        with torch.no_grad():
            backbone(view.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _weights(attn: WindowAttention, x: Tensor, token: tuple[int, int]) -> Tensor:
    """Gives the weights ``(heads, H, W)`` of ``token`` in the map ``x`` ``(1, H, W, C)``.

    What a token receives is the sum of values times weights. So its gradient with respect to one channel of the values
    is the weights, for any kind of attention and any kernel, with its windows, its shift and its mask.
    """
    with torch.enable_grad():
        qkv = attn.qkv(x).detach().requires_grad_()
        received = attn.attend(qkv)[(0, *token)].unflatten(0, (attn.num_heads, -1))
        (gradient,) = torch.autograd.grad(received[:, 0].sum(), qkv)
    values = gradient[0].unflatten(-1, (3, attn.num_heads, -1))[:, :, 2]
    return values[..., 0].permute(2, 0, 1)
