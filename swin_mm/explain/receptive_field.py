"""Which pixels a token depends on, by gradient: the effective receptive field (Luo et al., arXiv 1701.04128)."""

import torch
from torch import Tensor

from ..backbone import SwinTransformer
from .view import Point, View, stride_of

DIRECTIONS = 8


def receptive_fields(backbone: SwinTransformer, view: View, point: Point, directions: int = DIRECTIONS) -> list[Tensor]:
    """Gives how much the token at ``point`` (x, y) depends on each pixel, ``(H, W)`` of ``view.inputs`` for each map.

    The measure of a pixel is the size of the token's Jacobian, the root of the sum of its squares over the channels
    of both, estimated with so many random ``directions``. The largest is 1. The sum of the channels would not do: it
    is the same for whatever an output norm gives.
    """
    inputs = view.inputs.detach().requires_grad_()
    with torch.enable_grad():
        maps = backbone(inputs)
    random = torch.Generator().manual_seed(0)
    fields = []
    for stage, x in zip(backbone.out_indices, maps, strict=True):
        row, column = view.place(point, stride_of(backbone, stage))
        token = x[0, :, row, column]
        squares = torch.zeros_like(inputs[0, 0])
        for _ in range(directions):
            direction = torch.randn(len(token), generator=random).to(token)
            (gradient,) = torch.autograd.grad(token, inputs, direction, retain_graph=True)
            squares += gradient[0].square().sum(0)
        field = squares.sqrt()
        fields.append(field / field.max().clamp(min=torch.finfo(field.dtype).tiny))
    return fields
