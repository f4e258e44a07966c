"""Weights of OpenMMLab's Swin under the official names and layouts, and back: names, and the order in patch merging.

Bitwise in both directions. mmdet 3.3's own ``swin_converter`` (one direction) is the check on it.
"""

from collections.abc import Mapping

from torch import Tensor

# (OpenMMLab, official): parts of names; no part holds another.
NAMES = [
    ('patch_embed.projection.', 'patch_embed.proj.'),
    ('stages.', 'layers.'),
    ('.attn.w_msa.', '.attn.'),
    ('.ffn.layers.0.0.', '.mlp.fc1.'),
    ('.ffn.layers.1.', '.mlp.fc2.'),
]


def to_official(state: Mapping[str, Tensor], grid: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """``state`` of mmdet's or mmseg's class, as the official one names and orders it.

    ``grid`` (rows, columns) is that of an absolute position embedding, which OpenMMLab keeps flat.
    """
    result = {}
    for name, value in state.items():
        for theirs, official in NAMES:
            name = name.replace(theirs, official)
        if '.downsample.' in name:
            # channels, row, column -> column, row, channels
            value = value.unflatten(-1, (-1, 2, 2)).transpose(-3, -1).flatten(-3)
        elif name == 'absolute_pos_embed':
            value = value.mT.unflatten(-1, grid)
        result[name] = value
    return result


def to_mmdet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official ``state``, as mmdet's and mmseg's class name and order it."""
    result = {}
    for name, value in state.items():
        for theirs, official in NAMES:
            name = name.replace(official, theirs)
        if '.downsample.' in name:
            value = value.unflatten(-1, (2, 2, -1)).transpose(-3, -1).flatten(-3)
        elif name == 'absolute_pos_embed':
            value = value.flatten(2).mT
        result[name] = value
    return result
