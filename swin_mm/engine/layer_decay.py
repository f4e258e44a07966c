"""Layer-wise decay of the learning rate: the nearer a layer is to the image, the smaller its steps."""

import re
from collections.abc import Iterable

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS

BLOCK = re.compile(r'backbone\.layers\.(\d+)\.blocks\.(\d+)\.')
MERGING = re.compile(r'backbone\.layers\.(\d+)\.downsample\.')
EMBEDDING = ('backbone.patch_embed.', 'backbone.absolute_pos_embed')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Multiplies the learning rate of a layer of Swin by ``layer_decay`` to the power of the layers above it.

    ``optim_wrapper=dict(constructor='swin_mm.LayerDecayConstructor', paramwise_cfg=dict(layer_decay=0.9, ...))``, where
    the other entries of ``paramwise_cfg`` mean what they mean in mmengine. The depths are those of SimMIM's
    fine-tuning (its ``optimizer.py``, ``get_swin_layer``): see `depths_of`. Neck and heads keep the full rate.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        decay = self.paramwise_cfg.get('layer_decay')
        if not isinstance(decay, int | float) or not 0 < decay <= 1:
            raise ValueError(f'paramwise_cfg.layer_decay must be in (0, 1], got layer_decay={decay}')
        if self.base_lr is None:
            raise ValueError('optimizer.lr must be set: the rates of the layers are parts of it')

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: int | float | None = None
    ) -> None:
        """Adds a group for each parameter of ``module`` to ``params``; for a whole model, with the rate of its layer.

        Raises ValueError for a model without blocks of a Swin Transformer in its backbone.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:  # a part of the model, on the way through it
            return
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        depths = depths_of(names.values())
        top = max(depths.values())
        for group in params:
            (parameter,) = group['params']
            above = top - depths[names[id(parameter)]]
            group['lr'] = group.get('lr', self.base_lr) * self.paramwise_cfg['layer_decay'] ** above


def depths_of(names: Iterable[str]) -> dict[str, int]:
    """Gives the depth of each parameter: 0 in the patch embedding, its own in a block, one more than all in heads.

    Blocks count from 1 through all stages. A patch merging has the depth of the last block before it. The norms of the
    maps, neck and heads are on top. Raises ValueError if there are no blocks.
    """
    names = list(names)
    blocks = sorted({(int(match[1]), int(match[2])) for name in names if (match := BLOCK.match(name))})
    if not blocks:
        raise ValueError('layer_decay needs a swin_mm.SwinTransformer as backbone, got a model without backbone.layers')

    def depth(name: str) -> int:
        if match := BLOCK.match(name):
            return 1 + blocks.index((int(match[1]), int(match[2])))
        if match := MERGING.match(name):
            return sum(stage <= int(match[1]) for stage, _ in blocks)
        return 0 if name.startswith(EMBEDDING) else 1 + len(blocks)

    return {name: depth(name) for name in names}
