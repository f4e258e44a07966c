"""Masks by conditional convolutions: for each object a small network, whose weights another branch predicts.

Tian et al., CondInst (arXiv 2003.05664), with an output after every layer, as Mask RepPoints V2 has it. Written after
``condconv_mask_head.py`` of the official Swin detection repository; parameters have the official names.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

FEATURES = 8  # channels that every pixel offers, and channels inside an object's network
INPUTS = FEATURES + 2  # the network also sees the direction (x, y) of a pixel
OUT_STRIDE = 4  # of masks, in pixels
# What lies one after the other in the weights of an object.
SIZES = {
    'matrices': [INPUTS * FEATURES, FEATURES * FEATURES, FEATURES],
    'biases': [FEATURES, FEATURES, 1],
    'matrices of second outputs': [INPUTS, FEATURES],
    'biases of second outputs': [1, 1],
}
NUMBER_OF_WEIGHTS = sum(map(sum, SIZES.values()))


class ConditionalMasks(nn.Module):
    """Features of pixels, and the masks that objects' networks see in them.

    Args:
        in_channels: Channels of the neck's maps.
        channels: Channels of the branch that makes the features.
        sizes_of_interest: For each level, the distance in pixels that counts as 1 for its objects.
        stride: Of the finest map, in pixels.
        levels: Number of the neck's maps that the features are made of, from the finest on.
        norm_cfg: The norm after every convolution.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        sizes_of_interest: Sequence[int],
        stride: int,
        levels: int = 3,
        norm_cfg: dict | None = None,
    ):
        super().__init__()
        self.branch = PixelFeatures(in_channels, channels, levels, norm_cfg)
        self.head = ObjectNetworks(sizes_of_interest, stride)


class PixelFeatures(nn.Module):
    """Turns the finest maps of a neck into features of pixels (B, 8, H, W), at the stride of the finest."""

    def __init__(self, in_channels: int, channels: int, levels: int, norm_cfg: dict | None):
        super().__init__()

        def conv(width: int) -> ConvModule:
            return ConvModule(width, channels, 3, padding=1, norm_cfg=norm_cfg)

        self.refine = nn.ModuleList(conv(in_channels) for _ in range(levels))
        self.tower = nn.Sequential(*[conv(channels) for _ in range(4)], nn.Conv2d(channels, FEATURES, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        from mmdet.models.utils import aligned_bilinear

        parts = [refine(x) for refine, x in zip(self.refine, maps, strict=False)]
        height = parts[0].shape[2]
        return self.tower(sum(aligned_bilinear(x, height // x.shape[2]) for x in parts))


class ObjectNetworks(nn.Module):
    """Draws masks: three layers for each object, on the features of a pixel and its direction from the object."""

    def __init__(self, sizes_of_interest: Sequence[int], stride: int):
        super().__init__()
        self.stride = stride
        self.register_buffer('sizes_of_interest', torch.tensor(sizes_of_interest))
        self.register_load_state_dict_pre_hook(_add_sizes)

    def forward(self, features: Tensor, weights: Tensor, places: Tensor, levels: Tensor) -> list[Tensor]:
        """Gives probabilities (n, H, W) at a stride of 4 pixels, from each of the three layers.

        Args:
            features: (n, 8, h, w), of the image of each object.
            weights: (n, N) as in `run_networks`.
            places: (n, 2), the centres of the objects, (x, y) in pixels.
            levels: (n,), the level at which each object was found.
        """
        from mmdet.models.utils import aligned_bilinear

        height, width = features.shape[2:]
        y, x = (torch.arange(side, device=places.device) * self.stride + self.stride // 2 for side in (height, width))
        pixels = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)]).flatten(1)
        away = (places[:, :, None] - pixels) / self.get_buffer('sizes_of_interest')[levels][:, None, None]
        inputs = torch.cat([away.to(features), features.flatten(2)], 1)
        return [
            aligned_bilinear(logits.view(-1, 1, height, width), self.stride // OUT_STRIDE)[:, 0].sigmoid()
            for logits in run_networks(inputs, weights)
        ]


def run_networks(x: Tensor, weights: Tensor) -> list[Tensor]:
    """Gives logits (n, 1, P) of each layer for the inputs ``x`` (n, 10, P) of n networks of three layers.

    The first two layers have a second output, of one channel, for a mask of their own. ``weights`` (n, N) are the
    matrices of the three layers, their biases, the matrices of the two second outputs, their biases.
    """
    parts = iter(weights.split([size for sizes in SIZES.values() for size in sizes], 1))
    matrices, biases, own_matrices, own_biases = ([next(parts) for _ in sizes] for sizes in SIZES.values())

    def layer(x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        return torch.baddbmm(bias[:, :, None], matrix.reshape(len(x), bias.shape[1], x.shape[1]), x)

    logits = []
    for i in range(2):
        logits.append(layer(x, own_matrices[i], own_biases[i]))
        x = layer(x, matrices[i], biases[i]).relu()
    return [*logits, layer(x, matrices[2], biases[2])]


def dice_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Gives (n,) losses of ``pred`` (n, H, W), probabilities, for ``target`` (n, H, W) of 0 and 1.

    1 minus twice the shared area over the sum of both (Milletari et al., V-Net, arXiv 1606.04797).
    """
    pred, target = pred.flatten(1), target.flatten(1)
    shared = (pred * target).sum(1)
    return 1 - 2 * shared / (pred.pow(2).sum(1) + target.pow(2).sum(1) + 1e-5)


def _add_sizes(head: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Takes the sizes from the config where a file has none: official files hold them among the weights."""
    state.setdefault(f'{prefix}sizes_of_interest', head.sizes_of_interest)
