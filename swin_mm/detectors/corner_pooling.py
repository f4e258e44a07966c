"""Corner pooling: features of a corner see along the two sides of the box that begin there.

Law and Deng, CornerNet, section 3.4 (arXiv 1808.01244), in the narrow form of RepPoints V2 (arXiv 2007.08508,
section 4). Parameters have the names of the official ``CornerPoolPack``.
"""

from mmcv.cnn import ConvModule
from mmcv.ops import CornerPool
from torch import Tensor, nn


class CornerPooling(nn.Module):
    """Features (B, C, H, W) of one corner of boxes.

    Args:
        channels: C of input and output.
        corner_channels: Channels between the pooling layers.
        sides: Directions of the two pooling layers of mmcv's ``CornerPool``: ('top', 'left') for the top left corner.
        norm_cfg: The norm of the layers. The official code has GN with 32 groups beside it, whatever this says.
    """

    def __init__(self, channels: int, corner_channels: int, sides: tuple[str, str], norm_cfg: dict | None):
        super().__init__()
        self.p1_conv1 = ConvModule(channels, corner_channels, 3, padding=1, norm_cfg=norm_cfg)
        self.p2_conv1 = ConvModule(channels, corner_channels, 3, padding=1, norm_cfg=norm_cfg)
        self.p_conv1 = nn.Conv2d(corner_channels, channels, 3, padding=1, bias=False)
        self.p_gn1 = nn.GroupNorm(32, channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.gn1 = nn.GroupNorm(32, channels)
        self.conv2 = ConvModule(channels, channels, 1, norm_cfg=norm_cfg)
        self.pool1, self.pool2 = (CornerPool(side) for side in sides)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool1(self.p1_conv1(x)) + self.pool2(self.p2_conv1(x))
        pooled = self.p_gn1(self.p_conv1(pooled))
        return self.conv2((pooled + self.gn1(self.conv1(x))).relu())
