"""The Swin Transformer backbone: an image in, the maps of its stages out (strides 4, 8, 16, 32)."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..checkpoints.load import adapt_before_loading
from ..registry import MODELS
from .arguments import Arguments
from .layers import PatchEmbed, Stage


@MODELS.register_module()
class SwinTransformer(BaseModule):
    """Maps ``(B, embed_dims * 2**i, height / (4 * 2**i), width / (4 * 2**i))`` of the stages i in ``out_indices``.

    Swin Transformer (arXiv 2103.14030) as the official detection and segmentation repositories define it, at any image
    size; odd sides round up. ``arch`` is 'tiny', 'small', 'base' or 'large'; the other arguments are those of mmdet's
    and mmseg's class of this name and the official spellings, see `Arguments`.

    Parameters have the official names and layouts. Raises ValueError or TypeError for arguments that break a rule.

    >>> backbone = SwinTransformer(arch='tiny', out_indices=(1, 3))
    >>> [tuple(m.shape) for m in backbone(torch.zeros(1, 3, 60, 100))]
    [(1, 192, 8, 13), (1, 768, 2, 4)]
    """

    arguments_type: type[Arguments] = Arguments
    stage_type: type[Stage] = Stage

    def __init__(
        self,
        arch: str | None = None,
        pretrained: str | None = None,
        init_cfg: dict[str, Any] | None = None,
        **arguments: Any,
    ):
        super().__init__(init_cfg=_pretrained_init(pretrained, init_cfg))
        self.arguments = a = self.arguments_type.parse(arch, **arguments)
        options = [a.block_options(i) for i in range(len(a.depths))]
        norm = options[0].norm
        self.out_indices, self.frozen_stages = a.out_indices, a.frozen_stages
        widths = [a.embed_dims * 2**i for i in range(len(a.depths))]
        self.out_channels = [widths[i] for i in a.out_indices]

        self.patch_embed = PatchEmbed(a.in_channels, a.embed_dims, a.patch_size, norm if a.patch_norm else None)
        if a.use_abs_pos_embed:
            grid = [side // patch for side, patch in zip(a.pretrain_img_size, a.patch_size, strict=True)]
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, a.embed_dims, *grid))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(a.drop_rate)

        # A stage after the last map would be computed for nothing and break DDP with parameters that get no gradient.
        last = a.out_indices[-1]
        rates = torch.linspace(0, a.drop_path_rate, sum(a.depths), device='cpu').split(list(a.depths))
        self.layers = nn.ModuleList(
            self.stage_type(widths[i], a.num_heads[i], rates[i].tolist(), i < last, options[i], a.with_cp)
            for i in range(last + 1)
        )
        for i in a.out_indices:
            self.add_module(f'norm{i}', norm(widths[i]))

        self.apply(_init_weights)
        self.register_load_state_dict_pre_hook(adapt_before_loading)
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of ``image`` ``(B, in_channels, height, width)``, channels first; raises on an image it cannot take."""
        self._check(image)
        x = self.patch_embed(image)  # (B, H, W, C)
        if self.arguments.use_abs_pos_embed:
            embed = F.interpolate(self.absolute_pos_embed, size=x.shape[1:3], mode='bicubic')
            x = x + embed.permute(0, 2, 3, 1)
        x = self.pos_drop(x)

        maps = []
        for i, stage in enumerate(self.layers):
            tokens, x = stage(x)
            if i in self.out_indices:
                norm = getattr(self, f'norm{i}')
                maps.append(norm(tokens).permute(0, 3, 1, 2))
        return tuple(maps)

    def train(self, mode: bool = True) -> 'SwinTransformer':
        """Sets training mode, frozen stages excepted; returns the module itself."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.patch_embed, self.pos_drop, *self.layers[: self.frozen_stages]]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)
        if self.arguments.use_abs_pos_embed:
            self.absolute_pos_embed.requires_grad_(False)

    def _check(self, image: Tensor) -> None:
        channels = self.arguments.in_channels
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(f'image must be (B, {channels}, height, width), got {tuple(image.shape)}')
        if 0 in image.shape:
            raise ValueError(f'image must not be empty, got {tuple(image.shape)}')
        if not image.is_floating_point():
            raise TypeError(f'image must be floating point and normalised, got {image.dtype}')


def _pretrained_init(pretrained: str | None, init_cfg: dict[str, Any] | None) -> dict[str, Any] | None:
    if pretrained is None:
        return init_cfg
    if not isinstance(pretrained, str):
        raise TypeError(f'pretrained must be a path or URL, got {pretrained!r}')
    if init_cfg is not None:
        raise ValueError(
            'pretrained and init_cfg must not be given together: drop pretrained, it is the older spelling'
        )
    return dict(type='Pretrained', checkpoint=pretrained)


def _init_weights(module: nn.Module) -> None:
    """Official ``SwinTransformer.init_weights``: linear layers normal within two standard deviations of 0.02."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
