"""Swin Transformer as an ImageNet classifier: to check its weights end to end, and to start from."""

from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..checkpoints.load import adapt_before_loading
from ..registry import MODELS
from .arguments import Arguments
from .layers import PatchEmbed, Stage
from .swin import _init_weights

# The arguments of a backbone that mean nothing here.
DENSE = ('out_indices', 'frozen_stages', 'use_abs_pos_embed', 'ape')


@MODELS.register_module()
class SwinClassifier(BaseModule):
    """Logits ``(B, num_classes)`` of an image ``(B, in_channels, height, width)``.

    The arguments are those of `SwinTransformer`, those for maps excepted. It differs from the backbone in that blocks
    do not shift along a side of the map that one window covers, the last stage at 224 pixels with a window of 7: as in
    torchvision at any size whose sides are multiples of the patch, and as in the official classification code at the
    square sizes that it takes (``SwinTransformerBlock.__init__``). A trace or ONNX file keeps the shifts of its
    example, so it serves images of that size alone.

    Names are those of the official classifiers; weights of any dialect load, head and last norm included. Raises
    ValueError or TypeError for arguments that break a rule.

    >>> SwinClassifier(arch='tiny')(torch.zeros(1, 3, 224, 224)).shape
    torch.Size([1, 1000])
    """

    def __init__(
        self,
        arch: str | None = None,
        num_classes: int = 1000,
        init_cfg: dict[str, Any] | None = None,
        **arguments: Any,
    ):
        super().__init__(init_cfg=init_cfg)
        if unknown := [name for name in DENSE if name in arguments]:
            raise TypeError(f'SwinClassifier has no argument {unknown}: these are for the maps of a SwinTransformer')
        self.arguments = a = Arguments.parse(arch, **arguments)
        if a.use_abs_pos_embed:
            raise ValueError(f"position must have no 'absolute' in it in a SwinClassifier, got {a.position}")
        options = replace(a.block_options(0), cancel_shift=True)
        widths, last = [a.embed_dims * 2**i for i in range(len(a.depths))], len(a.depths) - 1
        rates = torch.linspace(0, a.drop_path_rate, sum(a.depths), device='cpu').split(list(a.depths))

        self.patch_embed = PatchEmbed(a.in_channels, a.embed_dims, a.patch_size, options.norm if a.patch_norm else None)
        self.pos_drop = nn.Dropout(a.drop_rate)
        self.layers = nn.ModuleList(
            Stage(widths[i], a.num_heads[i], rates[i].tolist(), i < last, options, a.with_cp) for i in range(last + 1)
        )
        self.norm = options.norm(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)
        self.apply(_init_weights)
        self.register_load_state_dict_pre_hook(adapt_before_loading)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.pos_drop(self.patch_embed(image))  # (B, H, W, C)
        for stage in self.layers:
            last, tokens = stage(tokens)
        return self.head(self.norm(last).mean(dim=(1, 2)))
