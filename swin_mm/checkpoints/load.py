"""Puts weights into modules: the one place where a checkpoint meets a model."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import CheckpointError, shortlist
from .adapt import adapt, is_exact
from .containers import contents, tensors, unwrap
from .convert import to_official
from .dialects import COORDINATES

BACKBONE = 'backbone.'
HEAD = 'head.weight'
SHARDED = '_fsdp_wrapped_module'  # PyTorch's name for what is inside a wrapper of FSDP


def adapt_before_loading(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leaves in ``state``, under ``prefix``, what ``module`` holds, whatever dialect it is in, and logs a table of it.

    A load-state-dict pre-hook of a backbone or classifier whose `Arguments` are ``module.arguments``: so every way to
    load weights takes every dialect. A state dict of ours passes as it is, and so does one with nothing under
    ``prefix``. Under FSDP nothing changes, since ``module`` holds parts of its tensors only: what fits is made before.
    Raises CheckpointError.
    """
    if any(SHARDED in name for name, _ in module.named_modules()):
        return
    given = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    target = module.state_dict()
    if not given or is_exact(given, target):
        return
    a: Any = module.arguments
    # A backbone drops the head of a classifier, a classifier keeps it.
    source = to_official(unwrap(given)[0]) if HEAD in target else given
    coordinates = {name: buffer for name, buffer in module.named_buffers() if name.endswith(COORDINATES)}
    adapted, report = adapt(source, target, a.window_size, a.first_conv, a.min_loaded, coordinates)
    for key in given:
        del state[prefix + key]
    state.update({prefix + key: value for key, value in adapted.items()})
    print_log(report.table(), 'current', logging.INFO if report.complete else logging.WARNING)


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], whole: bool = True) -> None:
    """Loads ``checkpoint``, the content of a file, into ``model``: a detector, a segmentor or a backbone alone.

    It may have a container and a prefix or not. A file of the backbone alone fills the backbone. Unless ``whole``,
    tensors outside the backbone may be absent or of another shape: they stay as they are, and the log says which.
    Raises CheckpointError, naming some of them, if they may not, or if nothing fits.
    """
    own = model.state_dict()
    state = _of_model(checkpoint, own)
    shapes = {key: (value.shape, own[key].shape) for key, value in state.items() if key in own}
    # Inside the backbone shapes may differ: it knows what to resize, and refuses the rest.
    other = {key: pair for key, pair in shapes.items() if pair[0] != pair[1] and not key.startswith(BACKBONE)}
    if whole and other:
        raise CheckpointError(_other_shapes(other, checkpoint))
    result = model.load_state_dict({key: value for key, value in state.items() if key not in other}, strict=False)
    missing = [key for key in result.missing_keys if key not in other]
    filled = len(own) - len(missing) - len(other)
    if not filled or (whole and missing):
        raise CheckpointError(
            f'the checkpoint fills {filled} of {len(own)} tensors of the model. Missing: {shortlist(missing)}; '
            f'of no use: {shortlist(result.unexpected_keys) or "none"}. Choose the config that it was trained with'
        )
    for keys, text in (
        ([f'{key} {_change(pair)}' for key, pair in other.items()], 'start fresh, they have another shape'),
        (missing, 'start fresh, the checkpoint does not have them'),
        (result.unexpected_keys, 'of the checkpoint are not used'),
    ):
        if keys:
            print_log(f'{len(keys)} tensors {text}: {shortlist(keys)}', 'current', logging.WARNING)


def check_names(model: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless ``checkpoint`` holds every tensor of ``model`` under its own name, in its shape.

    A resumed run needs that: `load_weights` renames, reorders and resizes weights, but not the moments of AdamW, which
    have numbers in place of names. Moments of mmdet's patch merging would fit ours in shape, in another order.
    """
    own = model.state_dict()
    state = _of_model(checkpoint, own)
    other = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    if other:
        raise CheckpointError(
            f'the checkpoint is written for another backbone than that of this run: {len(other)} of {len(own)} tensors '
            f'are not under their names and in their shapes, such as {shortlist(other)}. Its weights can be converted, '
            'the state of its optimizer cannot. Start a new run from the weights: --cfg-options load_from=FILE instead '
            'of --resume'
        )


def _of_model(checkpoint: Mapping[str, Any], own: Iterable[str]) -> dict[str, Tensor]:
    """Gives the tensors in ``checkpoint``, under ``backbone.`` if they are of a backbone alone and the model is not."""
    state = {key.removeprefix('module.'): value for key, value in tensors(contents(checkpoint)).items()}
    parts = {key.partition('.')[0] for key in own}
    alone = 'backbone' in parts and not any(key.partition('.')[0] in parts for key in state)
    return {BACKBONE + key: value for key, value in state.items()} if alone else state


def _other_shapes(other: Mapping[str, tuple], checkpoint: Mapping[str, Any]) -> str:
    meta = checkpoint.get('meta') or {}
    names = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES')
    trained = f' It was trained on {len(names)} classes ({shortlist(names)}).' if names else ''
    listed = shortlist([f'{key} {_change(pair)}' for key, pair in other.items()])
    return (
        f'{len(other)} tensors of the checkpoint have other shapes than those of the model: {listed}.{trained} Choose '
        'the config that it was trained with, or set its num_classes, in a file or with --cfg-options'
    )


def _change(pair: tuple) -> str:
    return f'{tuple(pair[0])} -> {tuple(pair[1])}'
