"""The dialects of public Swin checkpoints as tables.

Official names stand on the left, a library's on the right. One name means one tensor, so a table serves both
directions. What differs besides names is in the flags of `Dialect`. To add a dialect, add a row to `DIALECTS`, and one
to `DIALECTS_V2` if its library has Swin Transformer V2.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..errors import CheckpointError

STAGES = range(16)  # four in public checkpoints; widths double, so that no network has more than these

# V2: (1, 2h - 1, 2w - 1, 2), the only place where a file tells its window (h, w).
COORDINATES = 'relative_coords_table'

# What is computed from the arguments and stands in some files all the same.
DERIVED = ('relative_position_index', 'attn_mask', COORDINATES)

# What a dialect is recognised by: norms and MLPs have the same names in several.
ATTENTION = ('attn.relative_position_bias_table', 'attn.qkv.', 'attn.proj.')


@dataclass(frozen=True)
class Dialect:
    """The names and layouts of a family of libraries, where they differ from the official detection code's.

    In the templates {i} is the stage, {next} the one after it, {odd} and {even} are torchvision's 2i + 1 and 2i + 2.
    ``stem``, ``block``: (official, theirs) starts of names, in the backbone and inside a block.
    ``map_norm``, ``last_norm``: output norm of a stage, and of a classifier; None where there is none.
    ``head``: the classifier; it stands beside the backbone, which then has the prefix ``shell``.
    ``norm_of_last_map``: a classifier's norm is called as that of its last map.
    ``unfolded``: the parts of patch merging whose inputs are ordered as ``nn.Unfold`` does it: channel, row, column.
    ``qkv``: starts of the names, inside a block, of three layers for queries, keys and values; empty for one layer.
    ``index``: dimensions of the derived ``relative_position_index`` that their state dict holds; 0 for none.
    ``flat_embedding``: an absolute position embedding is (1, H * W, C).
    ``coordinates``: V2, their state dict holds the derived ``relative_coords_table``.
    ``one_bias``: V2, the biases of queries, keys and values are one tensor, in which that of the keys counts as 0.
    """

    name: str
    libraries: str
    version: int = 1
    blocks: str = 'layers.{i}.blocks.'
    downsample: str = 'layers.{i}.downsample.'
    map_norm: str | None = None
    last_norm: str = 'norm.'
    head: str = 'head.'
    shell: str = ''
    stem: tuple[tuple[str, str], ...] = ()
    block: tuple[tuple[str, str], ...] = ()
    norm_of_last_map: bool = False
    unfolded: tuple[str, ...] = ()
    qkv: tuple[str, ...] = ()
    index: int = 0
    flat_embedding: bool = False
    coordinates: bool = False
    one_bias: bool = False

    @property
    def joined(self) -> str:
        """Official start of the names, inside a block, of what ``qkv`` makes up; in V2 biases are apart."""
        return 'attn.qkv.' if self.version == 1 else 'attn.qkv.weight'

    @cached_property
    def block_starts(self) -> tuple[tuple[str, str], ...]:
        """(official, theirs) start of the names of a stage's blocks, up to the block's number."""
        return tuple((f'layers.{i}.blocks.', _fill(self.blocks, i)) for i in STAGES)

    @cached_property
    def other_starts(self) -> tuple[tuple[str, str], ...]:
        """(official, theirs) starts of names outside the blocks, the longest first."""
        pairs = [*self.stem, ('norm.', self.last_norm)]
        for i in STAGES:
            pairs.append((f'layers.{i}.downsample.', _fill(self.downsample, i)))
            if self.map_norm:
                pairs.append((f'norm{i}.', _fill(self.map_norm, i)))
        return tuple(pairs)

    @cached_property
    def block_key(self) -> re.Pattern:
        """Matches the key of an attention layer's tensor, after any prefix."""
        starts = '|'.join(re.escape(theirs) for _, theirs in self.block_starts)
        inside = [swap(part, self.block) for part in ATTENTION if not (self.qkv and part == 'attn.qkv.')]
        inside += self.qkv
        return re.compile(rf'(?P<prefix>(.*\.)?)({starts})\d+\.({"|".join(map(re.escape, inside))})')


def _fill(template: str, stage: int) -> str:
    return template.format(i=stage, next=stage + 1, odd=2 * stage + 1, even=2 * stage + 2)


def swap(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Replaces the start of ``name`` by the first pair (old, new) that fits; leaves it alone if none does."""
    return next((new + name[len(old) :] for old, new in pairs if name.startswith(old)), name)


# Hugging Face's layers around the attention, the same in all versions.
_HF: dict[str, Any] = dict(
    blocks='encoder.layers.{i}.blocks.',
    downsample='encoder.layers.{i}.downsample.',
    map_norm='hidden_states_norms.stage{next}.',
    last_norm='layernorm.',
    head='classifier.',
    shell='swin.',
    stem=(
        ('patch_embed.proj.', 'embeddings.patch_embeddings.projection.'),
        ('patch_embed.norm.', 'embeddings.norm.'),
        ('absolute_pos_embed', 'embeddings.position_embeddings'),
        ('mask_token', 'embeddings.mask_token'),
    ),
    flat_embedding=True,
)
_HF_BLOCK = (('norm1.', 'layernorm_before.'), ('norm2.', 'layernorm_after.'))

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            'official',
            'Microsoft, the official detectors and segmentors, detectron2, SimMIM, MoBY, timm < 0.9',
            map_norm='norm{i}.',
        ),
        Dialect(
            'timm',
            'timm >= 0.9',
            downsample='layers.{next}.downsample.',
            head='head.fc.',
        ),
        Dialect(
            'mmdet',
            'mmdet, mmseg, mmpretrain',
            blocks='stages.{i}.blocks.',
            downsample='stages.{i}.downsample.',
            map_norm='norm{i}.',
            head='head.fc.',
            shell='backbone.',
            stem=(('patch_embed.proj.', 'patch_embed.projection.'),),
            block=(('attn.', 'attn.w_msa.'), ('mlp.fc1.', 'ffn.layers.0.0.'), ('mlp.fc2.', 'ffn.layers.1.')),
            norm_of_last_map=True,
            unfolded=('norm.', 'reduction.'),
            index=2,
            flat_embedding=True,
        ),
        Dialect(
            'torchvision',
            'torchvision',
            blocks='features.{odd}.',
            downsample='features.{even}.',
            stem=(('patch_embed.proj.', 'features.0.0.'), ('patch_embed.norm.', 'features.0.2.')),
            block=(('mlp.fc1.', 'mlp.0.'), ('mlp.fc2.', 'mlp.3.')),
            index=1,
        ),
        Dialect(
            'hf',
            'files of Hugging Face transformers, any version',
            **_HF,
            block=(
                *_HF_BLOCK,
                ('attn.proj.', 'attention.output.dense.'),
                ('attn.', 'attention.self.'),
                ('mlp.fc1.', 'intermediate.dense.'),
                ('mlp.fc2.', 'output.dense.'),
            ),
            qkv=('attention.self.query.', 'attention.self.key.', 'attention.self.value.'),
            index=2,
        ),
        Dialect(
            'hf5',
            'state dicts of transformers >= 5, which writes other names than it holds',
            **_HF,
            block=(
                *_HF_BLOCK,
                ('attn.relative', 'attention.relative_position_bias.relative'),
                ('attn.proj.', 'attention.o_proj.'),
            ),
            qkv=('attention.q_proj.', 'attention.k_proj.', 'attention.v_proj.'),
        ),
    )
}
ALIASES = {'mmseg': 'mmdet', 'mmpretrain': 'mmdet', 'microsoft': 'official', 'detectron2': 'official'}

# Swin Transformer V2. Names that are not here are those of V1, and those of the attention are Microsoft's.
DIALECTS_V2 = {
    dialect.name: replace(dialect, version=2)
    for dialect in (
        replace(DIALECTS['official'], libraries='Microsoft, SimMIM, timm < 0.9', coordinates=True),
        DIALECTS['timm'],
        replace(
            DIALECTS['mmdet'],
            name='mmpretrain',
            libraries='mmpretrain',
            downsample='stages.{next}.downsample.',
            unfolded=('reduction.',),  # the norm comes after it
            coordinates=True,
        ),
        replace(DIALECTS['torchvision'], coordinates=True, one_bias=True),
        replace(
            DIALECTS['hf'],
            map_norm=None,
            shell='swinv2.',
            block=(
                ('attn.cpb_mlp.', 'attention.self.continuous_position_bias_mlp.'),
                ('attn.q_bias', 'attention.self.query.bias'),
                ('attn.v_bias', 'attention.self.value.bias'),
                *DIALECTS['hf'].block,
            ),
            qkv=tuple(f'{start}weight' for start in DIALECTS['hf'].qkv),
            index=0,
        ),
    )
}


def by_name(name: str, version: int) -> Dialect:
    """The dialect of that name or alias, of Swin Transformer V1 or V2; raises CheckpointError for another."""
    table = DIALECTS if version == 1 else DIALECTS_V2
    names = {**{alias: table[own] for alias, own in ALIASES.items() if own in table}, **table}
    if name not in names:
        raise CheckpointError(f'dialect of Swin V{version} must be one of {sorted(names)}, got {name!r}')
    return names[name]
