"""The arguments of `SwinTransformerV2`: what differs from `Arguments`."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from .arguments import Arguments, pair, require
from .attention.window_v2 import WindowAttentionV2
from .layers import BlockOptions


@dataclass(frozen=True)
class ArgumentsV2(Arguments):
    """The arguments of `SwinTransformerV2`: those of `Arguments`, where not listed here; checked on creation.

    window_size, pretrained_window_sizes: in tokens, as an int or (height, width) for all stages, or a list with one of
        these a stage. The second are the windows of the pretraining whose weights are used, if it had others: they are
        the unit of the position bias. 0 means the window itself.
    qk_scale: None; V2 learns one scale a head.
    attention, position: 'window', and 'relative' with or without 'absolute'.
    """

    network: ClassVar[str] = 'SwinTransformerV2'

    window_size: Any = 8
    pretrained_window_sizes: Any = 0
    pretrain_img_size: tuple[int, int] = (256, 256)

    def _settle_windows(self) -> None:
        require(self.qk_scale is None, 'qk_scale must be None: V2 learns a scale for each head', self.qk_scale)
        require(self.attention == 'window', "attention must be 'window' in V2", self.attention)
        positions = ('relative', 'absolute+relative')
        require(self.position in positions, f'position must be one of {positions} in V2', self.position)
        for name, least in (('window_size', 1), ('pretrained_window_sizes', 0)):
            object.__setattr__(self, name, _pairs(name, getattr(self, name), len(self.depths), least))

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """The window of each stage."""
        return self.window_size

    def block_options(self, stage: int) -> BlockOptions:
        attention = partial(WindowAttentionV2, pretrained_window=self.pretrained_window_sizes[stage])
        return replace(super().block_options(stage), attention=attention)


def _pairs(name: str, value: Any, stages: int, least: int) -> tuple[tuple[int, int], ...]:
    """One (height, width) for each stage; two ints are the (height, width) of all stages, also if there are two."""
    one_each = isinstance(value, (tuple, list)) and not (len(value) == 2 and all(isinstance(v, int) for v in value))
    values = value if one_each else [value] * stages
    require(len(values) == stages, f'{name} must have one entry for each of {stages} stages', value)
    return tuple(pair(name, one, least) for one in values)
