"""The Swin Transformer V2 backbone: blocks that normalise last, cosine attention, windows that may grow."""

from torch import Tensor, nn

from ..kernels import BlockLayers, MergingLayers, fast_block
from ..kernels.block import NOTHING
from ..registry import MODELS
from .arguments_v2 import ArgumentsV2
from .layers import BlockOptions, Norm, PatchMerging, Stage, SwinBlock
from .swin import SwinTransformer


class SwinBlockV2(SwinBlock):
    """Cosine attention and an MLP, each normalised before it is added to its input (arXiv 2111.09883, section 3.2).

    Norms start at zero, so that a block is the identity at first (official ``_init_respostnorm``). Drop path comes
    after the norm as in the official code; before it, a dropped branch would add the norm's bias.
    """

    def __init__(self, dim: int, num_heads: int, shift: tuple[int, int], drop_path: float, options: BlockOptions):
        super().__init__(dim, num_heads, shift, drop_path, options)
        for norm in (self.norm1, self.norm2):
            for parameter in norm.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        if (y := fast_block(self._layers(x), x)) is not None:
            return y
        x = x + self.drop_path(self.norm1(self.attn(x)))
        return x + self.drop_path(self.norm2(self.mlp(x)))

    def _layers(self, x: Tensor) -> BlockLayers | None:
        layers = super()._layers(x)
        return layers and layers._replace(
            before_attention=NOTHING, after_attention=self.norm1, before_mlp=NOTHING, after_mlp=self.norm2
        )


class PatchMergingV2(PatchMerging):
    """Patch merging whose norm, of the new width, comes last."""

    def __init__(self, dim: int, norm: Norm):
        super().__init__(dim, norm)
        self.norm = norm(2 * dim)

    def merge(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(x))

    def _layers(self) -> MergingLayers | None:
        layers = super()._layers()
        return layers and layers._replace(before=NOTHING, after=self.norm)


class StageV2(Stage):
    """A stage of Swin Transformer V2."""

    block = SwinBlockV2
    merging = PatchMergingV2


@MODELS.register_module()
class SwinTransformerV2(SwinTransformer):
    """Swin Transformer V2 (arXiv 2111.09883) as a backbone: maps as of `SwinTransformer`, at any image size.

    The network is that of the official classification code (``models/swin_transformer_v2.py``); padding, shifts and
    odd sides are those of the official detectors, and each map has a norm of its own, as theirs. ``arch`` is 'tiny',
    'small', 'base' or 'large', and ``window_size`` 8 unless given. The other arguments are those of `SwinTransformer`,
    and `ArgumentsV2` lists the differences.

    Weights of another window serve as they are, if the window is named. Those that were trained on 256 pixels with
    windows of 16 had 8 in the last stage, whose map is not larger:

    >>> backbone = SwinTransformerV2(arch='tiny', window_size=[16, 16, 16, 8], out_indices=(1, 3))
    >>> [tuple(m.shape) for m in backbone(torch.zeros(1, 3, 60, 100))]
    [(1, 192, 8, 13), (1, 768, 2, 4)]
    """

    arguments_type = ArgumentsV2
    stage_type = StageV2
