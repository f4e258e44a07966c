"""Reads pickles as data: nothing that a pickle names runs.

A pickle names classes and functions and has them called. Here each of a few names stands for a harmless function of
this room, which keeps the data and nothing else; `torch.load` refuses every other name, and so does `read_pickle`.
Neither NumPy nor mmengine is imported, and the real ``getattr`` is out of reach.
"""

import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from .numpy_arrays import Array, Dtype, array_from_buffer, new_array, scalar
from .weights_only import load_weights_only


class _HistoryBuffer:
    """A log of mmengine's."""

    def __setstate__(self, state: dict) -> None:
        self.state = state


class _Namespace:
    """``argparse.Namespace``: its attributes."""


class _Config:
    """A dict with attributes, such as ``yacs.config.CfgNode``, becomes one without."""

    def __new__(cls, *items: Any) -> OrderedDict:  # type: ignore[misc]  # a class, since unpickling calls __new__
        return OrderedDict(*items)


class _Method:
    """What ``getattr`` would have looked up: code, which no state needs."""

    def __init__(self, *_: Any):
        pass


def _no_bytes() -> bytes:
    """``bytes()``, as the older protocols write empty ones."""
    return b''


def _encode(text: str, encoding: str) -> bytes:
    """``_codecs.encode``, as Python 2's protocol writes bytes."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'GLOBAL _codecs.encode to {encoding!r}')
    return text.encode('latin1')


def _storage(raw: bytes) -> Any:
    """``torch.storage._load_from_bytes``, which itself runs what the bytes name."""
    return load_weights_only(io.BytesIO(raw))


def _rebuild_tensor(storage: Any, *arguments: Any) -> Tensor:
    """``torch._utils._rebuild_tensor_v2``, which itself lengthens a storage with whatever the memory held before."""
    size = storage._untyped_storage.nbytes()
    tensor = torch._utils._rebuild_tensor_v2(storage, *arguments)
    if (taken := tensor.untyped_storage().nbytes()) != size:
        raise pickle.UnpicklingError(f'holds {size} bytes for a tensor that takes {taken}')
    return tensor


# mmengine saves schedulers with their methods and logs with their statistics, all of them by name.
STAND_INS: dict[str, Callable] = {
    'numpy.dtype': Dtype,
    'numpy.ndarray': Array,
    **{f'numpy.{core}.multiarray._reconstruct': new_array for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': scalar for core in ('core', '_core')},
    **{f'numpy.{core}.numeric._frombuffer': array_from_buffer for core in ('core', '_core')},
    'mmengine.logging.history_buffer.HistoryBuffer': _HistoryBuffer,
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler': _Method,
    'builtins.getattr': _Method,
    'builtins.bytes': _no_bytes,
    'mmengine.config.config.ConfigDict': _Config,
    'yacs.config.CfgNode': _Config,
    'argparse.Namespace': _Namespace,
}
BUILT = (Dtype, Array, _HistoryBuffer, _Namespace)  # may be given a state
TENSORS = {'torch.storage._load_from_bytes': _storage, 'torch._utils._rebuild_tensor_v2': _rebuild_tensor}
FOR_PLAIN_PICKLES = {**STAND_INS, **TENSORS, 'collections.OrderedDict': OrderedDict, '_codecs.encode': _encode}
OPCODES = ('INST', 'OBJ', 'NEWOBJ_EX', 'EXT1', 'EXT2', 'EXT4', 'PERSID', 'BINPERSID', 'NEXT_BUFFER', 'READONLY_BUFFER')
REFUSED = {getattr(pickle, name)[0] for name in OPCODES}  # other ways to call something, or to reach outside the file
PYTHON_2 = {'__builtin__': 'builtins'}
_LOCK = threading.Lock()


@contextmanager
def stand_ins_in_torch() -> Iterator[None]:
    """Lets ``torch.load(weights_only=True)`` use the stand-ins inside the block; one thread at a time.

    What the user has allow-listed under these names has to wait: half a NumPy array would fit the other half no more.
    Does nothing before PyTorch 2.6, which takes no names for other things.
    """
    if torch.__version__ < '2.6':
        yield
        return
    with _LOCK:
        listed = torch.serialization.get_safe_globals()
        others = [item for item in listed if _path(item) not in STAND_INS]
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([*others, *((value, name) for name, value in STAND_INS.items())])
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(listed)


def _path(listed: Any) -> str:
    return listed[1] if isinstance(listed, tuple) else f'{listed.__module__}.{listed.__qualname__}'


def plain_data(value: Any) -> Any:
    """``value`` with tensors and dicts in the place of stand-ins; entries that are code are left out.

    A ``HistoryBuffer`` becomes a dict, from which ``compat/mmengine_checkpoints.py`` makes one. Dicts and lists stay.
    """
    return _to_data(value, {}, lambda tensor: tensor)


def _to_data(value: Any, done: dict[int, tuple[Any, Any]], array: Callable[[Tensor], Any]) -> Any:
    # `done` keeps what it was given alive, so that an id stays its own; without it, lists that share lists take forever
    if id(value) in done:
        return done[id(value)][1]
    result = value
    if isinstance(value, dict | list):
        done[id(value)] = value, value
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if isinstance(item, _Method)]:
            del value[key]
        value.update({key: _to_data(item, done, array) for key, item in value.items()})
    elif isinstance(value, list):
        value[:] = [_to_data(item, done, array) for item in value]
    elif type(value) is tuple:
        result = tuple(_to_data(item, done, array) for item in value)
    elif isinstance(value, Array):
        result = array(value.tensor)
    elif isinstance(value, _Namespace):
        result = _to_data(vars(value), done, array)
    elif isinstance(value, _HistoryBuffer):
        logs = {name: _to_data(value.state[f'_{name}'], done, array) for name in ('log_history', 'count_history')}
        result = {**logs, 'max_length': value.state['max_length']}
    elif isinstance(value, Dtype | _Method):
        result = None
    if result is not value:
        done[id(value)] = value, result
    return result


def read_pickle(file: BinaryIO, array: Callable[[Tensor], Any] = lambda tensor: tensor) -> Any:
    """Reads a plain pickle such as detectron2's, arrays as ``array(tensor)``; raises UnpicklingError for odd names."""
    return _to_data(_Unpickler(file, encoding='latin1').load(), {}, array)


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, except that it looks no name up, and calls nothing but stand-ins.

    The one written in C would set attributes of the stand-ins themselves if a pickle asked for it.
    """

    stack: list[Any]
    dispatch: ClassVar[dict] = {code: load for code, load in pickle._Unpickler.dispatch.items() if code not in REFUSED}

    def find_class(self, module: str, name: str) -> Any:
        path = f'{PYTHON_2.get(module, module)}.{name}'
        if path not in FOR_PLAIN_PICKLES:
            raise pickle.UnpicklingError(f'GLOBAL {path}')
        return FOR_PLAIN_PICKLES[path]

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _checked(self.stack[-1])(*arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        cls = _checked(self.stack.pop())
        self.stack.append(cls.__new__(cls, *arguments))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) in BUILT and hasattr(target, '__setstate__'):
            target.__setstate__(state)
        elif type(target) in (*BUILT, OrderedDict) and isinstance(state, dict):
            vars(target).update(state)
        else:
            raise pickle.UnpicklingError(f'GLOBAL {type(target).__name__} with a state')

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def _checked(called: Any) -> Any:
    if not any(called is known for known in FOR_PLAIN_PICKLES.values()):
        raise pickle.UnpicklingError(f'GLOBAL {type(called).__name__} called')
    return called
