"""Converts state dicts of any dialect to official names and layouts, and back, to the bit in both directions.

What differs between dialects is names, the order of patch merging, queries, keys and values in one layer or three, and
derived buffers. Whatever is outside the backbone, such as the heads of a detector, passes as it is. What is of Swin V2
stays so.
"""

from collections.abc import Iterable, Mapping
from math import isqrt

import torch
from torch import Tensor

from ..errors import CheckpointError
from .dialects import COORDINATES, DERIVED, Dialect, by_name, swap
from .locate import last_stage, locate
from .windows import window_of

EMBEDDING = 'absolute_pos_embed'
Pairs = Iterable[tuple[str, str]]  # (old, new) starts of names


def to_official(state: Mapping[str, Tensor], grid: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Converts ``state`` of a backbone, a classifier or a whole model to official names and layouts.

    A backbone or classifier comes without prefix (``layers.0...``, ``norm.``, ``head.``). In a whole model the backbone
    stands under ``backbone.`` and other keys are untouched. The decoder and the other branches of a backbone in
    pretraining are left out, and so are derived buffers, but for V2's ``relative_coords_table``. ``grid``: (rows,
    columns) of an absolute position embedding that is flat in ``state``; None for a square one. Raises CheckpointError.
    """
    dialect, prefix, inside, outside = split(state)
    official = backbone_to_official(inside, dialect, grid)
    if 'backbone.' in prefix and not all(key.startswith((dialect.head, 'head.')) for key in outside):
        return {f'backbone.{key}': value for key, value in official.items()} | outside
    head = {swap(key, [(dialect.head, 'head.')]): value for key, value in outside.items()}
    head = {key: value for key, value in head.items() if key.startswith('head.')}
    last = last_stage(official)
    if head and dialect.norm_of_last_map and f'norm{last - 1}.weight' not in official:
        # mmpretrain's classifiers have the norm before the head where the last map's norm stands.
        official = {swap(key, [(f'norm{last}.', 'norm.')]): value for key, value in official.items()}
    return official | head


def from_official(state: Mapping[str, Tensor], dialect: str) -> dict[str, Tensor]:
    """Converts official ``state``, as `to_official` returns it, to the dialect 'mmdet', 'mmseg', 'timm', ...

    The derived index is added where the library's own state dict has one, so that the result loads strictly there. For
    V2 that takes the ``relative_coords_table`` of ``state``: weights alone do not tell their window.
    Raises CheckpointError for a tensor that the dialect has no place for.
    """
    source, _, inside, outside = split(state)
    to = by_name(dialect, source.version)
    if source.name != 'official':
        raise CheckpointError(f'state must be official, got {source.name}: pass it through to_official first')
    if outside:
        return _beside(to, 'backbone.', backbone_from_official(inside, to)) | outside
    head = {key: inside.pop(key) for key in list(inside) if key.startswith('head.')}
    if head and dialect == 'mmpretrain':
        inside = {swap(key, [('norm.', f'norm{last_stage(inside)}.')]): value for key, value in inside.items()}
    backbone = _beside(to, to.shell if head else '', backbone_from_official(inside, to))
    return backbone | {swap(key, [('head.', to.head)]): value for key, value in head.items()}


def _beside(dialect: Dialect, prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Puts ``state`` under ``prefix``; for transformers >= 5 some of it under ``swin.``, beside the norms of the maps.

    State dicts of that library (hf5) have everything but the norms of the maps under ``swin.``. Its files (hf) have
    the last norm alone there.
    """
    norms = any(key.startswith('hidden_states_norms.') for key in state)
    inner = {'hf': 'layernorm.', 'hf5': ''}.get(dialect.name)  # start of the names that stand in ``swin.``
    result = {}
    for key, value in state.items():
        inside = norms and inner is not None and key.startswith(inner) and not key.startswith('hidden_states_norms.')
        result[f'{prefix}{dialect.shell if inside else ""}{key}'] = value
    return result


def split(state: Mapping[str, Tensor]) -> tuple[Dialect, str, dict[str, Tensor], dict[str, Tensor]]:
    """Gives the dialect, the backbone's prefix, its tensors without prefix, and all others; raises as `locate` does."""
    dialect, prefix = locate(state)
    parent = prefix.removesuffix(dialect.shell)
    inside, outside = {}, {}
    for key, value in state.items():
        if key.startswith(prefix):
            # transformers >= 5 writes a backbone's last norm with a prefix that its other names do not have
            inside[key[len(prefix) :].removeprefix(dialect.shell)] = value
        elif key.startswith(f'{parent}hidden_states_norms.'):
            inside[key[len(parent) :]] = value
        else:
            outside[key] = value
    return dialect, prefix, inside, outside


def backbone_to_official(
    state: Mapping[str, Tensor], dialect: Dialect, grid: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Converts a backbone's tensors, whose names have no prefix, to official names and layouts."""
    heads = [('head.fc.', 'head.'), (dialect.head, 'head.')]  # timm < 0.9 had both names
    outer = heads + [(theirs, official) for official, theirs in dialect.other_starts]
    blocks = [(theirs, official) for official, theirs in dialect.block_starts]
    inner = [(theirs, official) for official, theirs in dialect.block]
    inner += [('attn.rpe_mlp.', 'attn.cpb_mlp.')]  # SimMIM's first name
    result: dict[str, Tensor] = {}
    for key, value in _joined(state, dialect).items():
        if key.endswith(DERIVED) and not (dialect.coordinates and key.endswith(COORDINATES)):
            continue
        name = _rename(key, blocks, inner, outer)
        if _is_unfolded(name, dialect):
            value = _merging(key, value, (-1, 2, 2))  # channels, row, column
        elif name == EMBEDDING and value.ndim == 3:
            value = _unflattened(key, value, grid)
        if name in result:
            raise CheckpointError(f'the checkpoint holds {name} twice, once as {key}')
        result[name] = value
    return _biases_apart(result) if dialect.one_bias else result


def backbone_from_official(state: Mapping[str, Tensor], dialect: Dialect) -> dict[str, Tensor]:
    """Inverts `backbone_to_official`, and adds the derived index where the dialect's own state dicts hold it."""
    if not dialect.map_norm and (norms := [key for key in state if key[:4] == 'norm' and key[4:5].isdigit()]):
        raise CheckpointError(f'{dialect.name} has no norms of maps: leave out {", ".join(norms)}')
    if EMBEDDING in state and not dialect.map_norm:
        raise CheckpointError(f'{dialect.name} has no absolute position embedding: it has no place for {EMBEDDING}')
    result = {}
    for name, value in (_biases_in_one(state) if dialect.one_bias else state).items():
        if name.endswith(COORDINATES) and not dialect.coordinates:
            continue
        if _is_unfolded(name, dialect):
            value = _merging(name, value, (2, 2, -1))  # column, row, channels
        elif name == EMBEDDING and dialect.flat_embedding:
            value = value.flatten(2).mT.contiguous()
        key = _rename(name, dialect.block_starts, dialect.block, dialect.other_starts)
        if dialect.qkv and f'.{dialect.joined}' in name:
            block, _, kind = name.rpartition(f'.{dialect.joined}')
            block = swap(block, dialect.block_starts)
            parts = [part.clone() for part in value.chunk(3)]
            result.update({f'{block}.{start}{kind}': part for start, part in zip(dialect.qkv, parts, strict=True)})
            continue
        result[key] = value
        if dialect.index and (window := window_of(name, value)):
            index = relative_position_index(window)
            place = f'{key.rpartition(".")[0]}.relative_position_index'
            result[place] = index if dialect.index == 2 else index.flatten()
    return result


def _rename(key: str, blocks: Pairs, inner: Pairs, outer: Pairs) -> str:
    """Replaces the start of a block's name and the start of the part inside the block; elsewhere the start alone."""
    for old, new in blocks:
        if key.startswith(old):
            number, dot, rest = key[len(old) :].partition('.')
            if number.isdigit():
                return f'{new}{number}{dot}{swap(rest, inner)}'
    return swap(key, outer)


def _is_unfolded(name: str, dialect: Dialect) -> bool:
    """Whether the inputs of the tensor with this official name have another order in ``dialect``."""
    return name.partition('.downsample.')[2].startswith(dialect.unfolded)


def _merging(key: str, value: Tensor, order: tuple[int, int, int]) -> Tensor:
    """Reverses the order of the inputs of patch merging: (channel, row, column) to (column, row, channel), or back."""
    if value.ndim == 0 or value.shape[-1] % 4:
        raise CheckpointError(f'{key} must hold four tokens of equal width, got shape {tuple(value.shape)}')
    return value.unflatten(-1, order).transpose(-3, -1).flatten(-3)


def _unflattened(key: str, value: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Reshapes an absolute position embedding ``(1, H * W, C)`` to ``(1, C, H, W)``; square unless ``grid`` fits it."""
    tokens = value.shape[1]
    if grid is None or grid[0] * grid[1] != tokens:
        grid = (isqrt(tokens),) * 2
    if grid[0] * grid[1] != tokens:
        raise CheckpointError(f'{key} must be of a square image or of pretrain_img_size, got {tokens} positions')
    return value.mT.unflatten(-1, grid).contiguous()


def _joined(state: Mapping[str, Tensor], dialect: Dialect) -> dict[str, Tensor]:
    """Joins the tensors of queries, keys and values to one, under the name that the table has."""
    result = dict(state)
    fused = swap(dialect.joined, dialect.block)
    for name in {key.replace(start, fused) for start in dialect.qkv for key in state if start in key}:
        keys = [name.replace(fused, start) for start in dialect.qkv]
        shapes = {key: tuple(state[key].shape) if key in state else None for key in keys}
        if None in shapes.values() or len(set(shapes.values())) > 1:
            raise CheckpointError(f'queries, keys and values must be there and of one shape, got {shapes}')
        result[name] = torch.cat([result.pop(key) for key in keys])
    return result


def _biases_apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """V2: takes the biases of queries and values out of one tensor with that of the keys, which counts as 0."""
    result = dict(state)
    for name in [name for name in state if name.endswith('.attn.qkv.bias')]:
        value = result.pop(name)
        if value.ndim != 1 or value.shape[0] % 3:
            raise CheckpointError(f'{name} must hold three biases of equal width, got shape {tuple(value.shape)}')
        block = name.removesuffix('qkv.bias')
        result[f'{block}q_bias'], _, result[f'{block}v_bias'] = (part.clone() for part in value.chunk(3))
    return result


def _biases_in_one(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverts `_biases_apart`, with 0 for the keys."""
    result = dict(state)
    for name in [name for name in state if name.endswith('.attn.q_bias')]:
        block = name.removesuffix('q_bias')
        if f'{block}v_bias' not in state:
            raise CheckpointError(f'{block}v_bias must be there, beside {name}')
        queries, values = result.pop(name), result.pop(f'{block}v_bias')
        result[f'{block}qkv.bias'] = torch.cat([queries, torch.zeros_like(queries), values])
    return result


def relative_position_index(window: tuple[int, int]) -> Tensor:
    """``(N, N)`` int64: the row of the bias table for each pair of tokens in a window (height, width).

    The table has a row for each offset (dy, dx), counted from the most negative one, dx running fastest
    (official ``WindowAttention.__init__``).
    """
    h, w = window
    places = torch.cartesian_prod(torch.arange(h), torch.arange(w))  # (N, 2)
    dy, dx = (places[:, None] - places[None]).unbind(-1)
    return (dy + h - 1) * (2 * w - 1) + dx + w - 1
