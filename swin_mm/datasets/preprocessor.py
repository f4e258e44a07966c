"""Gives the data preprocessors of mmdet and mmseg a mean and a deviation for each of any number of channels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class AnyChannels(nn.Module):
    """What comes before a preprocessor of mmdet or mmseg among the bases of a class.

    mmdet's takes 1 or 3 means only. mmseg's takes any number, but spreads an image of one channel over several means.
    To swap red and blue, mmdet's drops a fourth channel and mmseg's does nothing: here that takes three channels.

    Args:
        mean: The mean of each channel, on the scale of the loaded images.
        std: The standard deviation of each channel, on the same scale.
        bgr_to_rgb: Whether the channels of an image of three change places.
        rgb_to_bgr: The same.
        **options: Other options of the class of mmdet or mmseg.

    Raises:
        ValueError: ``std`` is not positive or not as long as ``mean``, or other than three channels shall change
            places, or an image has another number of channels.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        **options: Any,
    ):
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise ValueError(f'mean and std must have a value for each channel, std above 0, got {mean=} {std=}')
        if (bgr_to_rgb or rgb_to_bgr) and len(mean) != 3:
            raise ValueError(f'bgr_to_rgb and rgb_to_bgr must be False without 3 channels, got {len(mean)} means')
        super().__init__(bgr_to_rgb=bgr_to_rgb, rgb_to_bgr=rgb_to_bgr, **options)
        self.channels = len(mean)
        self._enable_normalize = True  # what both base classes read, with `mean` and `std`
        for name, values in (('mean', mean), ('std', std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalises, pads and stacks ``inputs``, each (channels, H, W), as the base class does."""
        for image in data['inputs']:
            if len(image) != self.channels:
                raise ValueError(
                    f'images must have a channel for each of {self.channels} means, got shape {tuple(image.shape)}: '
                    'set data_preprocessor.mean and .std, or the bands that are loaded'
                )
        return super().forward(data, training)
