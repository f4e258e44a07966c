"""The arguments of `SwinTransformer`: names, defaults and rules."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar

from torch import nn

from ..checkpoints import FIRST_CONV
from .attention import KINDS, SelfAttention
from .layers import BlockOptions

# arXiv 2103.14030, section 3.3, and 2111.09883, section 3.5: width, blocks a stage, heads a stage.
ARCHS: dict[str, dict[str, Any]] = {
    'tiny': dict(embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
    'small': dict(embed_dims=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24)),
    'base': dict(embed_dims=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)),
    'large': dict(embed_dims=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48)),
}

POSITIONS = ('relative', 'none', 'absolute', 'absolute+relative', 'relative_only')

# The official repositories' spelling of an argument, and OpenMMLab's.
ALIASES = dict(embed_dim='embed_dims', in_chans='in_channels', ape='use_abs_pos_embed', use_checkpoint='with_cp')


@dataclass(frozen=True)
class Arguments:
    """Every argument of mmdet's and mmseg's ``SwinTransformer`` under its name, and ours; checked on creation.

    Annotations are those of a created object: lists have become tuples, and an int for two sides a pair.

    in_channels: channels of the image.
    embed_dims, depths, num_heads: width of the first stage; blocks and attention heads of each stage, one or more.
    window_size, patch_size, pretrain_img_size: an int or (height, width), in tokens, pixels and pixels.
    strides: (patch_size, 2, 2, ...), the one pyramid that Swin has, or empty for the same.
    mlp_ratio: hidden width of the MLP over the width of its block.
    qkv_bias, qk_scale: bias of the qkv layer; factor on the scores, None for ``head_dim ** -0.5``.
    patch_norm: normalise after the patch embedding (official meaning: patch merging always normalises).
    drop_rate, attn_drop_rate, drop_path_rate: probabilities; drop path grows linearly with depth up to its own.
    use_abs_pos_embed: learn a position embedding for ``pretrain_img_size``, resized to the map in every forward.
    position: 'relative', 'none', 'absolute', 'absolute+relative' or 'relative_only' (table 4 of arXiv 2103.14030): a
        bias on the scores, a learned embedding of the map's places, or both; the last has the bias for its only scores.
        With ``use_abs_pos_embed``, the name that OpenMMLab has for the embedding, 'relative' is 'absolute+relative'.
    shift: whether the windows of every second block are shifted.
    attention: 'window', 'sliding', 'performer' or 'global', or a dict with that as ``type`` and arguments of its class
        in `swin_mm.backbone.attention`.
    out_indices: the stages whose maps are returned; later stages are not built.
    frozen_stages: -1 none, 0 the patch embedding, n also the first n stages and their output norms (mmdet's meaning).
    with_cp: recompute each block in the backward pass instead of keeping its activations.
    act_cfg, norm_cfg: ``dict(type=...)`` with a class of ``torch.nn``, 'LN', a class, or a registered name.
    kernel: how window attention is computed: 'auto', 'reference', 'sdpa', 'cpu', 'triton', or for comparison the slow
        'padding'; see `swin_mm.kernels`.
    convert_weights: accepted because mmdet's configs have it; ignored, since layouts are recognised.
    min_loaded: share of tensors that weights to load must have in common with the backbone; 0 takes what there is.
    first_conv: how RGB weights serve ``in_channels`` other than 3: 'repeat' (scaled; for one channel their sum),
        'average' or 'sum', see ``checkpoints/resize.py``.
    """

    network: ClassVar[str] = 'SwinTransformer'

    in_channels: int = 3
    embed_dims: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: tuple[int, int] = (7, 7)
    patch_size: tuple[int, int] = (4, 4)
    pretrain_img_size: tuple[int, int] = (224, 224)
    strides: tuple[int, ...] = ()
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    patch_norm: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.1
    use_abs_pos_embed: bool = False
    position: str = 'relative'
    shift: bool = True
    attention: str | dict[str, Any] = 'window'
    out_indices: tuple[int, ...] = (0, 1, 2, 3)
    frozen_stages: int = -1
    with_cp: bool = False
    act_cfg: dict[str, Any] = field(default_factory=lambda: dict(type='GELU'))
    norm_cfg: dict[str, Any] = field(default_factory=lambda: dict(type='LN'))
    kernel: str = 'auto'
    convert_weights: bool = False
    min_loaded: float = 0.95
    first_conv: str = 'repeat'

    @classmethod
    def parse(cls, arch: str | None = None, **given: Any) -> 'Arguments':
        """Arguments as a config gives them: aliases and ``arch`` resolved, unknown names refused."""
        for alias, name in ALIASES.items():
            if alias in given:
                if name in given:
                    raise TypeError(f'{alias} is another name of {name}: give one of the two')
                given[name] = given.pop(alias)
        known = [entry.name for entry in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise TypeError(f'{cls.network} has no argument {unknown}; it has {["arch", *known]}')
        return cls(**_with_arch(arch, given))

    def __post_init__(self):
        for name in ('depths', 'num_heads', 'out_indices', 'strides'):
            object.__setattr__(self, name, _ints(name, getattr(self, name)))
        for name in ('patch_size', 'pretrain_img_size'):
            object.__setattr__(self, name, pair(name, getattr(self, name)))
        self._settle_windows()
        self._check_numbers()
        self._check_stages()
        self._check_positions()
        strides = (self.patch_size[0], *[2] * (len(self.depths) - 1))
        square = (self.patch_size[0],) * 2 == self.patch_size
        rule = f'strides must be {strides}, with patch_size={self.patch_size}'
        require(not self.strides or (square and self.strides == strides), rule, self.strides)

    def _settle_windows(self) -> None:
        object.__setattr__(self, 'window_size', pair('window_size', self.window_size))

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """The window of each stage."""
        return (self.window_size,) * len(self.depths)

    def _check_numbers(self) -> None:
        for name in ('in_channels', 'embed_dims'):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, f'{name} must be an int of at least 1', value)
        for name in ('drop_rate', 'attn_drop_rate', 'drop_path_rate'):
            require(0 <= getattr(self, name) < 1, f'{name} must be in [0, 1)', getattr(self, name))
        require(0 <= self.min_loaded <= 1, 'min_loaded must be in [0, 1]', self.min_loaded)
        require(self.first_conv in FIRST_CONV, f'first_conv must be one of {FIRST_CONV}', self.first_conv)
        require(self.embed_dims * self.mlp_ratio >= 1, 'mlp_ratio must leave the MLP a channel', self.mlp_ratio)

    def _check_stages(self) -> None:
        stages = len(self.depths)
        rule = 'depths and num_heads must have as many stages, one or more'
        require(stages == len(self.num_heads) >= 1, rule, self.depths, self.num_heads)
        require(min(self.depths) >= 1, 'depths must be at least 1 block a stage', self.depths)
        for stage, heads in enumerate(self.num_heads):
            width = self.embed_dims * 2**stage
            rule = f'num_heads must divide the width of its stage (stage {stage} has width {width})'
            require(heads >= 1 and width % heads == 0, rule, self.num_heads)
        ascending = tuple(sorted(set(self.out_indices) & set(range(stages))))
        rule = f'out_indices must be ascending stages from 0 to {stages - 1}, at least one'
        require(self.out_indices and self.out_indices == ascending, rule, self.out_indices)
        rule = f'frozen_stages must be from -1 to {stages}'
        require(self.frozen_stages in range(-1, stages + 1), rule, self.frozen_stages)

    def _check_positions(self) -> None:
        require(self.position in POSITIONS, f'position must be one of {POSITIONS}', self.position)
        if self.use_abs_pos_embed and self.position == 'relative':
            object.__setattr__(self, 'position', 'absolute+relative')
        absolute = 'absolute' in self.position
        rule = "position must have 'absolute' in it, with use_abs_pos_embed=True"
        require(absolute or not self.use_abs_pos_embed, rule, self.position)
        object.__setattr__(self, 'use_abs_pos_embed', absolute)
        rule = "qk_scale must be None with position='relative_only', which has no scores"
        require(self.position != 'relative_only' or self.qk_scale is None, rule, self.qk_scale)

    def block_options(self, stage: int) -> BlockOptions:
        return BlockOptions(
            window=self.windows[stage],
            mlp_ratio=self.mlp_ratio,
            qkv_bias=self.qkv_bias,
            qk_scale=0.0 if self.position == 'relative_only' else self.qk_scale,
            drop_rate=self.drop_rate,
            attn_drop_rate=self.attn_drop_rate,
            kernel=self.kernel,
            attention=_attention_maker(self.attention),
            relative_bias='relative' in self.position,
            shift=self.shift,
            norm=_module_maker('norm_cfg', self.norm_cfg),
            act=_module_maker('act_cfg', self.act_cfg),
        )


def require(condition: Any, rule: str, *values: Any) -> None:
    """Raises ValueError with ``rule`` and ``values`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(f'{rule}, got {", ".join(map(str, values))}')


def _ints(name: str, value: Any) -> tuple[int, ...]:
    whole = isinstance(value, (tuple, list)) and all(isinstance(item, int) for item in value)
    require(whole, f'{name} must be a tuple of ints', value)
    return tuple(value)


def pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Gives (height, width) of an int for both or of two; raises ValueError for another value of argument ``name``."""
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    rule = f'{name} must be an int of at least {least} or two (height, width)'
    require(len(sides) == 2 and all(isinstance(side, int) and side >= least for side in sides), rule, value)
    return sides[0], sides[1]


def _with_arch(arch: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """``given`` with the three numbers that ``arch`` stands for; one that is given and differs is an error."""
    if arch is None:
        return given
    matches = [name for name in ARCHS if arch in (name, name[0])]
    if not matches:
        raise ValueError(f'arch must be one of {list(ARCHS)} or its first letter, got {arch!r}')
    numbers = ARCHS[matches[0]]
    for name, value in numbers.items():
        own = given.get(name, value)
        if (tuple(own) if isinstance(own, list) else own) != value:
            raise ValueError(f'arch={arch!r} means {name}={value}, but {name}={own} is given too: drop one of the two')
    return {**given, **numbers}


def _module_maker(name: str, cfg: dict[str, Any]):
    """A function that makes the module of ``dict(type=..., **kwargs)``; ``requires_grad=False`` freezes it."""
    require(isinstance(cfg, dict) and 'type' in cfg, f"{name} must be a dict with a 'type'", cfg)
    kwargs = dict(cfg)
    kind, requires_grad = kwargs.pop('type'), kwargs.pop('requires_grad', True)
    if isinstance(kind, str):
        kind = nn.LayerNorm if kind == 'LN' else getattr(nn, kind, None) or _registered(kind)
    rule = f"{name} type must be 'LN', a class of torch.nn or a registered module"
    require(isinstance(kind, type) and issubclass(kind, nn.Module), rule, cfg['type'])

    def make(*args: Any) -> nn.Module:
        return kind(*args, **kwargs).requires_grad_(requires_grad)

    return make


def _attention_maker(attention: str | dict[str, Any]) -> Callable[..., SelfAttention]:
    own = dict(attention) if isinstance(attention, dict) else dict(type=attention)
    kind = KINDS.get(str(own.pop('type', None)))
    if kind is None:
        raise ValueError(f'attention must be one of {list(KINDS)}, or a dict with that as type, got {attention!r}')
    return partial(kind, **own) if own else kind


def _registered(kind: str) -> Any:
    from ..registry import MODELS

    return MODELS.get(kind)
