"""Measures times and memory, and makes medians, ratios, an exponent of growth and tables of them.

A result is a dict as benchmark.py writes it into JSON: times in seconds, memory in bytes, shapes (height, width).
"""

import statistics
import textwrap
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from ..errors import megabytes
from .peers import Conditions, Repetition

Key = TypeVar('Key')

WIDTH = 120  # columns of a terminal
WARM_UP = {'cpu': 2, 'cuda': 10}  # repetitions


def measure(runs: Mapping[Key, tuple[nn.Module, Repetition]], conditions: Conditions) -> dict[Key, dict[str, Any]]:
    """Times each repetition, once per round after a warm-up, and gives a summary of its times and its memory.

    ``runs`` holds, under a name, a repetition and before it the module that gets its gradients. ``first_call`` is the
    time of the very first repetition, in which compilation happens.
    """
    first: dict[Key, float] = {}
    times: dict[Key, list[float]] = {name: [] for name in runs}
    for name, (net, run) in runs.items():
        first[name] = timed(net, run, conditions.device)
        for _ in range(WARM_UP[conditions.device.type] - 1):
            timed(net, run, conditions.device)
    for _ in range(conditions.rounds):
        for name, (net, run) in runs.items():
            times[name].append(timed(net, run, conditions.device))
    return {
        name: summary(times[name]) | dict(first_call=first[name], memory=memory_of(net, run, conditions))
        for name, (net, run) in runs.items()
    }


def timed(net: nn.Module, run: Repetition, device: torch.device) -> float:
    """Gives the seconds that one repetition takes when it starts without gradients."""
    net.zero_grad(set_to_none=True)
    if device.type == 'cpu':
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3


def memory_of(net: nn.Module, run: Repetition, conditions: Conditions) -> int | None:
    """Gives the bytes that one repetition needs, in the sense of `Conditions.memory`; None if that is None."""
    net.zero_grad(set_to_none=True)
    if conditions.device.type == 'cuda':
        torch.cuda.synchronize(conditions.device)
        torch.cuda.reset_peak_memory_stats(conditions.device)
        before = torch.cuda.memory_allocated(conditions.device)
        run()
        return torch.cuda.max_memory_allocated(conditions.device) - before
    return saved_activations(net, run) if conditions.train else None


def saved_activations(net: nn.Module, run: Repetition) -> int:
    """Gives the bytes that ``run`` saves for its backward pass, without the weights.

    Each storage counts once. The bytes are those that autograd saves, so what a function keeps by itself is missed.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used again

    @torch.compiler.disable
    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, torch.compiler.disable(lambda tensor: tensor)):
        run()
    return sum(storage.nbytes() for storage in saved.values())


class PeakMemory(TorchDispatchMode):
    """Counts the most bytes that tensors made inside it hold at one time, on any device.

    >>> with PeakMemory() as memory:
    ...     y = torch.zeros(10) + 1
    >>> memory.peak
    80
    """

    def __init__(self):
        super().__init__()
        self.peak = self._now = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            self._known[storage] = None  # views of what was there before are not new
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._known:
                self._known[storage] = None
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return result

    def _add(self, number: int) -> None:
        self._now += number
        self.peak = max(self.peak, self._now)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Gives ``times``, of three rounds or more, with their median and quartiles."""
    first, median, third = statistics.quantiles(times, n=4, method='inclusive')
    return dict(times=list(times), median=median, quartiles=[first, third])


def speed(times: Sequence[float], reference: Sequence[float]) -> float:
    """Says how many times faster than ``reference`` it is: the median over the rounds of the ratio of both times.

    In a round both are measured one after the other, so a machine that is slow for a while does not matter.
    """
    return statistics.median(theirs / own for own, theirs in zip(times, reference, strict=True))


def exponent(sizes: Sequence[int], costs: Sequence[float], start: int) -> float | None:
    """Fits k in cost ~ size ** k by least squares on the logarithms, from size ``start`` up; None below two points."""
    points = [(size, cost) for size, cost in zip(sizes, costs, strict=True) if size >= start]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def comparison_table(result: dict[str, Any]) -> str:
    """Writes the implementations of one shape as a table, a line each, with notes below it."""
    entries = result['implementations']
    with_memory = result['memory_kind'] is not None
    with_compiling = any(entry['compiling'] is not None for entry in entries.values())
    line = f'{shape_text(result["shape"]):22}{"median":>13}{"middle half":>27}{"speed":>9}{"difference":>13}'
    if with_memory:
        line += f'{"memory":>14}'
    if with_compiling:
        line += f'{"compiling":>12}'
    lines = [line]
    for name, entry in entries.items():
        line = f'{name:22}{milliseconds(entry["median"]):>13}{_middle_half(entry):>27}{entry["speed"]:>8.2f}x'
        line += f'{_text_or_blank(entry["difference"], ".1e"):>13}'
        if with_memory:
            line += f'{_memory(entry):>14}'
        if with_compiling:
            line += f'{_text_or_blank(entry["compiling"], ".1f", " s"):>12}'
        lines.append(line)
    return '\n'.join(lines + [textwrap.fill(note, WIDTH, subsequent_indent='  ') for note in _notes(result)])


def _notes(result: dict[str, Any]) -> list[str]:
    """Explains the columns of a comparison, and what is special about some implementations."""
    reference, entries = result['reference'], result['implementations']
    notes = [
        f'speed: how many times faster than {reference}, median over the rounds. '
        f'difference: {result["difference_kind"]}.'
    ]
    if result['memory_kind'] is not None:
        notes.append(f'memory: {result["memory_kind"]}.')
    for caveat in dict.fromkeys(entry['caveat'] for entry in entries.values() if entry['caveat']):
        names = [name for name, entry in entries.items() if entry['caveat'] == caveat]
        notes.append(f'{", ".join(names)}: {caveat}.')
    return notes


def scaling_table(result: dict[str, Any]) -> str:
    """Writes time and memory of square images as a table, a line each."""
    memory = result['memory_kind']
    line = f'{"":16}{"median":>13}{"middle half":>27}{"a megapixel":>14}'
    if memory is not None:
        line += f'{"memory":>14}'
    lines = [line]
    for point in result['points']:
        line = f'{shape_text(point["shape"]):16}{milliseconds(point["median"]):>13}{_middle_half(point):>27}'
        line += f'{milliseconds(point["median"] / point["pixels"] * 1e6):>14}'
        if memory is not None:
            line += f'{_memory(point):>14}'
        lines.append(line)
    if result['exponent'] is not None:
        lines.append(f'time ~ pixels ** {result["exponent"]:.3f}, from 512 x 512 up')
    if memory is not None:
        lines.append(f'memory: {memory}.')
    return '\n'.join(lines)


def shape_text(shape: Sequence[int]) -> str:
    height, width = shape
    return f'{height} x {width}'


def milliseconds(seconds: float) -> str:
    decimals = 1 if seconds >= 0.1 else 3
    return f'{seconds * 1e3:,.{decimals}f} ms'


def _middle_half(entry: dict[str, Any]) -> str:
    first, third = entry['quartiles']
    return f'{milliseconds(first)} - {milliseconds(third)}'


def _memory(measured: dict[str, Any]) -> str:
    return '' if measured['memory'] is None else megabytes(measured['memory'])


def _text_or_blank(value: float | None, form: str, unit: str = '') -> str:
    return '' if value is None else f'{value:{form}}{unit}'
