"""Makes mmengine save checkpoints that ``torch.load(weights_only=True)`` reads, and load nothing else.

mmengine 0.10.7 saves its log as ``HistoryBuffer`` objects, best scores as NumPy scalars and scheduler methods by name,
and PyTorch >= 2.6 refuses such a file. Nothing is allow-listed here: what is saved is made plain, and the log is
rebuilt on resume. Files and URLs are read by `swin_mm.checkpoints.files`, which knows more formats than mmengine, names
what is wrong with a file, and verifies a download before it opens it.
"""

import functools
import inspect
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub, print_log
from mmengine.runner import checkpoint as mmengine_checkpoint

from ..checkpoints import files
from ..checkpoints.weights_only import check_before_loading
from .rebind import rebind

# Sets and complex numbers are not among them: PyTorch 2.5 refuses both.
LEAVES = (type(None), bool, int, float, str, bytes, torch.Size, torch.dtype, torch.device)
HISTORY = ('log_history', 'count_history', 'max_length')

# PyTorch 2.5 loads anything unless told. From 2.6 on None means True, and keeps PyTorch's own opt-out to the user.
WEIGHTS_ONLY = None if torch.__version__ >= '2.6' else True


def install() -> None:
    """Makes mmengine save plain values, and load weights only, from more kinds of files."""
    _save_plain_values()
    _load_weights_only()
    _read_files()


def plain(value: Any) -> Any:
    """Gives ``value`` in types that ``weights_only=True`` accepts; the same object if it already has such types.

    A NumPy scalar becomes a number, an array a list, a ``HistoryBuffer`` a dict of two tensors and its length, a path
    a string. Other mappings become a dict, other sequences and sets a list or tuple. If an entry of a mapping holds
    anything else, the entry is left out with a warning, or without one if it is a function or method, which is code and
    not state. Raises TypeError if there is no mapping around such an object.
    """
    if type(value) in LEAVES or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return dict(zip(HISTORY, (torch.tensor(log), torch.tensor(count), value.max_length), strict=True))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, list | tuple | set | frozenset | deque):
        items = [plain(item) for item in value]
        if type(value) in (list, tuple) and _identical(items, value):
            return value
        return tuple(items) if isinstance(value, tuple) else items
    raise TypeError(f'{type(value).__module__}.{type(value).__qualname__}')


def _plain_dict(value: dict) -> dict:
    entries = {}
    for key, item in value.items():
        try:
            entries[plain(key)] = plain(item)
        except TypeError as error:
            if not inspect.isroutine(item):
                print_log(
                    f'{key!r} is left out of the checkpoint: it holds a {error}, which torch.load(weights_only=True) '
                    'refuses; keep numbers, strings, tensors, lists and dicts there',
                    logger='current',
                    level=logging.WARNING,
                )
    unchanged = _identical(entries, value) and _identical(entries.values(), value.values())
    if unchanged and type(value) in (dict, OrderedDict):
        return value
    return OrderedDict(entries) if isinstance(value, OrderedDict) else entries


def _identical(a: Collection, b: Collection) -> bool:
    """Whether both hold the same objects, not only equal ones, in the same order."""
    return len(a) == len(b) and all(one is other for one, other in zip(a, b, strict=True))


def _save_plain_values() -> None:
    hub_state_dict, hub_load_state_dict = MessageHub.state_dict, MessageHub.load_state_dict
    save_checkpoint = mmengine_checkpoint.save_checkpoint

    @functools.wraps(hub_state_dict)
    def plain_state_dict(self: MessageHub) -> dict:
        return plain(hub_state_dict(self))

    @functools.wraps(hub_load_state_dict)
    def load_plain_state_dict(self: MessageHub, state_dict: MessageHub | dict) -> None:
        if isinstance(state_dict, dict) and 'log_scalars' in state_dict:
            scalars = {key: _rebuild_history(value) for key, value in state_dict['log_scalars'].items()}
            state_dict = dict(state_dict, log_scalars=scalars)
        hub_load_state_dict(self, state_dict)

    # The message hub is patched as well, because not every strategy of mmengine saves through this function.
    @functools.wraps(save_checkpoint)
    def save_plain_checkpoint(checkpoint: dict, *args: Any, **kwargs: Any) -> None:
        save_checkpoint(_plain_but_weights(checkpoint), *args, **kwargs)

    MessageHub.state_dict, MessageHub.load_state_dict = plain_state_dict, load_plain_state_dict
    rebind(save_checkpoint, save_plain_checkpoint)


def _plain_but_weights(checkpoint: dict) -> dict:
    # Weights are never left out of a file, whatever their type.
    weights = {key: value for key, value in checkpoint.items() if key.endswith('state_dict')}
    return {**weights, **plain({key: value for key, value in checkpoint.items() if key not in weights})}


def _rebuild_history(saved: Any) -> Any:
    """Rebuilds the ``HistoryBuffer`` that `plain` took apart; gives anything else, such as the old form, as it is."""
    if not (isinstance(saved, dict) and set(saved) == set(HISTORY)):
        return saved
    log, count, max_length = (saved[key] for key in HISTORY)
    return HistoryBuffer(log.cpu().numpy(), count.cpu().numpy(), max_length)


class _WeightsOnlyTorch:
    """Stands for ``torch`` in mmengine's checkpoint module: ``load`` takes weights only, the rest is PyTorch's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        check_before_loading(f)
        kwargs['weights_only'] = WEIGHTS_ONLY
        return torch.load(f, *args, **kwargs)


def _load_weights_only() -> None:
    # mmengine still loads by itself from storage backends such as s3://.
    mmengine_checkpoint.torch = _WeightsOnlyTorch()


def _read_files() -> None:
    """Makes ``init_cfg``, ``load_from``, ``resume`` and mmengine's model zoos read paths and URLs through `files`."""

    def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
        return files.read(filename, map_location or 'cpu')

    def load_from_http(filename: str, map_location: Any = None) -> dict[str, Any]:
        # Every process calls this; one downloads and the others wait for it: see `downloads.fetch`.
        return files.read(filename, map_location or 'cpu')

    # mmengine shows the part of the function names after `load_from_`.
    loader = mmengine_checkpoint.CheckpointLoader
    for prefixes, function in (('', load_from_local), (('http://', 'https://', 'hf://'), load_from_http)):
        rebind(getattr(mmengine_checkpoint, function.__name__), function)
        loader.register_scheme(prefixes, function, force=True)
