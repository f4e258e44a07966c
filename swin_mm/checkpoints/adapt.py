"""Turns a checkpoint of any dialect into exactly the tensors of a backbone, and reports what became of each key."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .containers import contents, tensors
from .convert import EMBEDDING, backbone_to_official, split
from .dialects import DERIVED, Dialect
from .locate import last_stage, v2_key
from .report import Report, network
from .resize import adapt_channels, resize_embedding, resize_table
from .windows import units_of

CONV = 'patch_embed.proj.weight'
TABLE = '.relative_position_bias_table'
MAP_NORM = re.compile(r'norm(\d+)\.')


def is_exact(source: Mapping[str, Any], target: Mapping[str, Tensor]) -> bool:
    """Whether ``source`` has exactly the names and shapes of ``target``, so that there is nothing to do or to say."""
    shapes = {key: getattr(value, 'shape', None) for key, value in source.items()}
    return shapes == {key: value.shape for key, value in target.items()}


def adapt(
    source: Mapping[str, Any],
    target: Mapping[str, Tensor],
    window: tuple[int, int],
    first_conv: str = 'repeat',
    min_loaded: float = 0.95,
    coordinates: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], Report]:
    """Gives the tensors of ``source`` the names and shapes of ``target``, and reports what became of each key.

    ``source``: what a file holds, with or without container and prefix. ``target``: a backbone's state dict; only names
    and shapes count. ``window``: its (height, width) in tokens. ``first_conv``: see `adapt_channels`. ``min_loaded``:
    share of tensors that must have a counterpart. ``coordinates``: for V2 the backbone's own ``relative_coords_table``,
    by name; the report says where those of ``source`` count in another unit. Missing and unexpected keys stay so, for a
    strict load to refuse. Raises CheckpointError for a checkpoint that is not of this network.
    """
    dialect, prefix, inside, outside = split(tensors(contents(source)))
    _check_version(inside, target)
    state = backbone_to_official(inside, dialect, _grid(target))
    theirs, ours = units_of(state), units_of(coordinates or {})
    state = {key: value for key, value in state.items() if not key.endswith(DERIVED)}
    report = Report(dialect.name, prefix, network(state), network(target))
    report.dropped = dict.fromkeys(outside, 'of other parts of the model')
    report.dropped |= {key: 'derived buffer' for key in inside if key.endswith(DERIVED)}
    report.units = [(theirs.get(stage, own), own) for stage, own in ours.items()]

    adapted = _matched(state, target, report, window, first_conv)
    _check_windows(state)
    norms = _norms_of_maps(state, target, dialect)
    report.fresh = list(norms)
    absent = [key for key in target if key not in adapted and key not in norms]
    report.deeper = [key for key in absent if _is_deeper(key, last_stage(state))]
    report.missing = [key for key in absent if key not in report.deeper]
    report.check(min_loaded)
    return adapted | norms, report


def _check_version(inside: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError if one is of Swin V1 and the other of V2: half of their names are the same."""
    key = v2_key(inside)
    if (key is None) == (v2_key(target) is None):
        return
    file, backbone, name = ('V1', 'V2', 'SwinTransformer') if key is None else ('V2', 'V1', 'SwinTransformerV2')
    listed = f' (it holds {key})' if key else ''
    raise CheckpointError(
        f'the checkpoint is of Swin {file}{listed}, the backbone of Swin {backbone}: use its weights with '
        f"type='swin_mm.{name}', in a recipe for Swin {file}, or choose weights of Swin {backbone}"
    )


def _matched(
    state: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    report: Report,
    window: tuple[int, int],
    first_conv: str,
) -> dict[str, Tensor]:
    """Gives the tensors of the official ``state`` that ``target`` has, resized where need be, and unexpected ones.

    Notes each key in ``report``. Raises CheckpointError for shapes that cannot be resized.
    """
    adapted, wrong = {}, []
    for key, value in state.items():
        if key not in target:
            if reason := _not_wanted(key, target, last_stage(state)):
                report.dropped[key] = reason
            else:
                report.unexpected.append(key)
                adapted[key] = value
            continue
        adapted[key] = value
        if value.shape == target[key].shape:
            report.loaded.append(key)
        elif (resized := _resized(key, value, target[key], window, first_conv)) is not None:
            adapted[key] = resized
            report.resized[key] = f'{key.rpartition(".")[2]} {tuple(value.shape)} -> {tuple(resized.shape)}'
        else:
            wrong.append(key)

    if wrong:
        _refuse(wrong, state, target, report)
    return adapted


def _grid(own: Mapping[str, Tensor]) -> tuple[int, int] | None:
    return (own[EMBEDDING].shape[2], own[EMBEDDING].shape[3]) if EMBEDDING in own else None


def _not_wanted(key: str, own: Mapping[str, Tensor], end: int) -> str | None:
    """Says why ``key`` of official stages to ``end`` is left out of ``own`` on purpose; None if it should be there."""
    if key.startswith(('head.', 'norm.')):
        return 'of the classification head'
    if key.startswith(('mask_token', 'decoder.')):
        return 'of pretraining'
    if match := MAP_NORM.match(key):
        return None if any(name.startswith(match[0]) for name in own) else 'of maps that are not returned'
    if match := re.match(r'layers\.(\d+)\.(downsample\.)?', key):
        stage, last = int(match[1]), last_stage(own)
        if last < stage <= end or (match[2] and stage == last < end):
            return 'of stages after the last map'
    return None


def _is_deeper(key: str, end: int) -> bool:
    """Whether the official ``key`` is of a stage after ``end``, the last one of a checkpoint of four stages or more.

    mmdet trains five stages that start from a public file of four, and loads what is there.
    """
    match = re.match(r'(?:layers\.|norm)(\d+)\.(downsample\.)?', key)
    return match is not None and end >= 3 and (int(match[1]) > end or (match[2] is not None and int(match[1]) == end))


def _resized(key: str, value: Tensor, own: Tensor, window: tuple[int, int], first_conv: str) -> Tensor | None:
    """Resizes ``value`` to the shape of ``own``; None unless only window, grid or channels differ."""
    if key.endswith(TABLE) and value.ndim == 2 and value.shape[1] == own.shape[1]:
        return resize_table(value, window)
    if key == EMBEDDING and value.ndim == 4 and value.shape[:2] == own.shape[:2]:
        return resize_embedding(value, (own.shape[2], own.shape[3]))
    if key == CONV and value.ndim == 4 and value[:, :1].shape == own[:, :1].shape:
        return adapt_channels(value, own.shape[1], first_conv)
    return None


def _check_windows(state: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError if bias tables of a stage differ in size: a damaged one would be resized as if right."""
    first: dict[str, str] = {}
    for key in state:
        if key.endswith(TABLE):
            one = first.setdefault(key.split('.')[1], key)
            if state[one].shape != state[key].shape:
                raise CheckpointError(
                    f'bias tables of a stage must have one shape, got {tuple(state[one].shape)} in {one} and '
                    f'{tuple(state[key].shape)} in {key}'
                )


def _norms_of_maps(state: Mapping[str, Tensor], own: Mapping[str, Tensor], dialect: Dialect) -> dict[str, Tensor]:
    """Makes norms of maps that start as the identity, if ``state`` is of a classifier, which has no such norms.

    Published detectors started so, and not from copies of the classifier's last norm. mmpretrain's classifiers have the
    norm of the last map. A state without any norm, neither of maps nor before a head, is a backbone that lost them:
    nothing is made for it.
    """
    present = {match[1] for key in state if (match := MAP_NORM.match(key))}
    classifier = not present and (dialect.map_norm is None or any(key.startswith(('norm.', 'head.')) for key in state))
    if not classifier and not (present == {str(last_stage(state))} and dialect.norm_of_last_map):
        return {}
    absent = {key: value for key, value in own.items() if (match := MAP_NORM.match(key)) and match[1] not in present}
    return {
        key: torch.full(value.shape, float(key.endswith(('.weight', '.running_var'))), dtype=value.dtype)
        for key, value in absent.items()
    }


def _refuse(keys: list[str], state: Mapping[str, Tensor], own: Mapping[str, Tensor], report: Report) -> None:
    listed = ', '.join(f'{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}' for key in keys[:3])
    raise CheckpointError(
        f'the checkpoint ({report.dialect}; {report.source}) has other shapes than the backbone ({report.target}) in '
        f'{len(keys)} tensors: {listed}. Choose arch, or embed_dims, num_heads and mlp_ratio, of these weights'
    )
