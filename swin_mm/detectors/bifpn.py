"""BiFPN: feature maps that are combined downwards and upwards several times, with learned weights.

Tan et al., EfficientDet, section 3 (arXiv 1911.09070), as the official Swin detection repository has it for RepPoints
V2 (``necks/bifpn.py``). Parameters have the official names.
"""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional


class BiFPN(BaseModule):
    """Turns maps of the backbone into ``num_outs`` maps (B, out_channels, H, W), each of half the size of the last.

    Levels beyond the backbone's come from max pooling its last map.

    Args:
        in_channels: Channels of the backbone's maps, from fine to coarse.
        out_channels: Channels of every output.
        num_outs: Number of outputs, at least as many as maps.
        num_repeat: Number of passes down and up.
        norm_cfg: The norm after every convolution; None for none.
        init_cfg: How fresh convolutions are drawn.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        num_repeat: int,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        if num_outs < len(in_channels):
            raise ValueError(f'num_outs must be at least the {len(in_channels)} maps of in_channels, got {num_outs}')
        self.in_channels = list(in_channels)
        self.num_outs = num_outs
        first = [*in_channels, *[in_channels[-1]] * (num_outs - len(in_channels))]
        widths = [first, *[[out_channels] * num_outs] * (num_repeat - 1)]
        self.bi_fpn = nn.ModuleList(DownAndUp(width, out_channels, norm_cfg) for width in widths)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gives ``num_outs`` maps for the backbone's maps (B, C, H, W), from fine to coarse."""
        maps = list(inputs)
        while len(maps) < self.num_outs:
            maps.append(_half(maps[-1]))
        for layer in self.bi_fpn:
            maps = layer(maps)
        return tuple(maps)


class DownAndUp(nn.Module):
    """One pass: coarse maps are added to finer ones, then fine maps to coarser ones."""

    def __init__(self, in_channels: Sequence[int], channels: int, norm_cfg: dict | None):
        super().__init__()
        levels = len(in_channels)

        def conv(width: int, kernel: int) -> ConvModule:
            return ConvModule(width, channels, kernel, padding=kernel // 2, norm_cfg=norm_cfg, act_cfg=None)

        # No parameters where the width is right already, as in every pass but the first.
        self.lateral_convs = nn.ModuleList(nn.Identity() if n == channels else conv(n, 1) for n in in_channels)
        self.lateral_combine = nn.ModuleList(WeightedSum(2) for _ in range(levels - 1))
        self.lateral_combine_conv = nn.ModuleList(conv(channels, 3) for _ in range(levels - 1))
        # The coarsest map has no third input: nothing came down to it.
        self.out_combine = nn.ModuleList(WeightedSum(2 if i == levels - 1 else 3) for i in range(1, levels))
        self.out_combine_conv = nn.ModuleList(conv(channels, 3) for _ in range(levels - 1))

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, inputs, strict=True)]
        maps = list(laterals)
        for i in reversed(range(len(maps) - 1)):
            from_above = functional.interpolate(maps[i + 1], size=maps[i].shape[2:], mode='nearest')
            maps[i] = self.lateral_combine_conv[i](self.lateral_combine[i]([maps[i], from_above]))
        for i in range(len(maps) - 1):
            parts = [_half(maps[i]), maps[i + 1]]
            if i + 2 < len(maps):
                parts.append(laterals[i + 1])
            maps[i + 1] = self.out_combine_conv[i](self.out_combine[i](parts))
        return maps


class WeightedSum(nn.Module):
    """The mean of maps by learned weights, none negative, and SiLU of it."""

    def __init__(self, number: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(1, 1, 1, 1, number))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        weights = self.weights.relu().flatten()
        shares = weights / (weights.sum() + 1e-4)
        return functional.silu(sum(share * x for share, x in zip(shares, maps, strict=True)))


def _half(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=2, padding=1)
