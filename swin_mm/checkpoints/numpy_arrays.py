"""Stands in for NumPy in pickles: arrays and their types as data, from which tensors are made."""

import math
import pickle
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    **{'b1': torch.bool, 'u1': torch.uint8, 'i1': torch.int8, 'i2': torch.int16, 'i4': torch.int32, 'i8': torch.int64},
    **{'f2': torch.float16, 'f4': torch.float32, 'f8': torch.float64, 'c8': torch.complex64, 'c16': torch.complex128},
    **{'u2': torch.uint16, 'u4': torch.uint32, 'u8': torch.uint64},
}


class Dtype:
    """``numpy.dtype``: little-endian numbers."""

    def __init__(self, code: str | bytes, *_: Any):
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ('>', b'>'):
            raise pickle.UnpicklingError('holds big-endian numbers')


class Array:
    """``numpy.ndarray``; it has no ``tensor`` before it gets its state."""

    tensor: Tensor

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        tensor = _tensor(raw, dtype, shape[::-1] if fortran else shape)
        self.tensor = tensor.permute(*reversed(range(len(shape)))) if fortran else tensor


def new_array(*_: Any) -> Array:
    """``_reconstruct``: an array that gets its numbers later."""
    return Array()


def array_from_buffer(raw: bytes, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    """``_frombuffer``, as protocol 5 writes an array."""
    array = Array()
    array.__setstate__((1, shape, dtype, order == 'F', raw))
    return array


def scalar(dtype: Dtype, raw: bytes | str) -> complex | float | bool:
    """``scalar``: a number."""
    return _tensor(raw, dtype, ()).item()


def _tensor(raw: bytes | str, dtype: Dtype, shape: tuple[int, ...]) -> Tensor:
    if dtype.code not in DTYPES:
        raise pickle.UnpicklingError(f'holds an array of {dtype.code!r}, which is no number')
    data = raw.encode('latin1') if isinstance(raw, str) else raw  # a string of Python 2
    kind = DTYPES[dtype.code]
    if len(data) != math.prod(shape) * kind.itemsize:
        raise pickle.UnpicklingError(f'holds {len(data)} bytes for an array of {dtype.code!r}, shape {tuple(shape)}')
    return torch.frombuffer(bytearray(data), dtype=kind).reshape(shape) if data else torch.empty(shape, dtype=kind)
