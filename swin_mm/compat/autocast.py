"""Keeps the boxes of mmdet's detectors in float32 under ``torch.autocast``.

In mmdet 3.3 anchors take the dtype of a head's answers (``AnchorHead.predict_by_feat``), RoIs that of the neck's maps
(``SingleRoIExtractor.forward``). bfloat16 holds no coordinate above 256 exactly, float16 none above 2048: boxes come
out wrong, and masks do not fit them. So necks and heads compute in 16 bits and answer in float32.
"""

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

PACKAGES = ('necks', 'dense_heads', 'roi_heads.bbox_heads', 'roi_heads.mask_heads')


def install() -> None:
    """Lets every neck and head of mmdet, and classes derived from them, answer in float32 under autocast.

    A class that inherits the call of one that was done is not done again.
    """
    for package in PACKAGES:
        for kind in vars(import_module(f'mmdet.models.{package}')).values():
            if isinstance(kind, type) and issubclass(kind, nn.Module) and not hasattr(kind.__call__, '__wrapped__'):
                kind.__call__ = _answering_in_float32(kind.__call__)  # type: ignore[method-assign]


def _answering_in_float32(call: Callable) -> Callable:
    @functools.wraps(call)
    def called(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return _in_float32(call(self, *args, **kwargs))

    return called


def _in_float32(answer: Any) -> Any:
    """Gives ``answer`` with float32 tensors for those of 16 bits on a device that autocast is on for."""
    if isinstance(answer, Tensor):
        low = answer.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(answer.device.type)
        return answer.float() if low else answer
    if isinstance(answer, dict):
        return {key: _in_float32(value) for key, value in answer.items()}
    if type(answer) in (list, tuple):
        return type(answer)(map(_in_float32, answer))
    return answer
