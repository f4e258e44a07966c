"""How times and memory are taken, and what becomes of them: medians, ratios, the exponent of growth, tables, plots.

A result is a dict as benchmark.py writes it into JSON: times in seconds, memory in bytes, shapes (height, width).
"""

import statistics
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from .peers import Conditions, Repetition

Key = TypeVar('Key')

WIDTH = 120  # columns of a terminal
FITTED_FROM = 512 * 512  # pixels; on smaller pictures a fixed cost shows
WARM_UP = {'cpu': 2, 'cuda': 10}  # repetitions


def measure(runs: Mapping[Key, tuple[nn.Module, Repetition]], conditions: Conditions) -> dict[Key, dict[str, Any]]:
    """The summary of each repetition's times, round by round one of each after a warm-up, and its memory.

    ``first_call`` is the time of the very first one, in which compilation happens. Beside each repetition stands the
    module whose gradients it makes.
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
    """Seconds that one repetition takes, from no gradients on."""
    net.zero_grad(set_to_none=True)
    if device.type == 'cpu':
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    torch.cuda.synchronize(device)
    events[0].record()
    run()
    events[1].record()
    torch.cuda.synchronize(device)
    return events[0].elapsed_time(events[1]) / 1e3


def memory_of(net: nn.Module, run: Repetition, conditions: Conditions) -> int | None:
    """Bytes that one repetition needs, see `Conditions.memory`; None where that says nothing."""
    net.zero_grad(set_to_none=True)
    if conditions.device.type == 'cuda':
        torch.cuda.synchronize(conditions.device)
        torch.cuda.reset_peak_memory_stats(conditions.device)
        before = torch.cuda.memory_allocated(conditions.device)
        run()
        return torch.cuda.max_memory_allocated(conditions.device) - before
    return saved_activations(net, run) if conditions.train else None


def saved_activations(net: nn.Module, run: Repetition) -> int:
    """Bytes of the storages that ``run`` saves for its backward pass, each counted once, those of weights left out.

    Autograd is asked, so what a function keeps by itself is missed.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    @torch.compiler.disable
    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, torch.compiler.disable(lambda tensor: tensor)):
        run()
    return sum(storage.nbytes() for storage in saved.values())


def summary(times: Sequence[float]) -> dict[str, Any]:
    """``times`` of three rounds or more with their median and quartiles."""
    first, median, third = statistics.quantiles(times, n=4, method='inclusive')
    return dict(times=list(times), median=median, quartiles=[first, third])


def speed(times: Sequence[float], reference: Sequence[float]) -> float:
    """How many times faster than ``reference``: the median of the ratios of the rounds.

    In a round both are measured one after the other, so that what slows the machine down for a while cancels.
    """
    return statistics.median(theirs / own for own, theirs in zip(times, reference, strict=True))


def exponent(pixels: Sequence[int], times: Sequence[float]) -> float | None:
    """The k of time ~ pixels ** k, by least squares on the logarithms from `FITTED_FROM` up; None below two points."""
    points = [(p, t) for p, t in zip(pixels, times, strict=True) if p >= FITTED_FROM]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def comparison_table(result: dict[str, Any]) -> str:
    """One shape's implementations, a line each, and below them what is special about some."""
    reference = result['reference']
    height, width = result['shape']
    entries, memory = result['implementations'], result['memory_kind']
    compiled = any(entry['compiling'] is not None for entry in entries.values())
    header = f'{f"{height} x {width}":22}{"median":>13}{"middle half":>27}{"speed":>9}{"difference":>13}'
    lines = [header + f'{"memory":>14}' * (memory is not None) + f'{"compiling":>12}' * compiled]
    for name, entry in entries.items():
        line = f'{name:22}{_ms(entry["median"]):>13}{_middle(entry):>27}{entry["speed"]:>8.2f}x'
        line += f'{_shown(entry["difference"], ".1e"):>13}'
        line += f'{_mb(entry["memory"]):>14}' * (memory is not None)
        lines.append(line + f'{_shown(entry["compiling"], ".1f", " s"):>12}' * compiled)
    notes = [
        f'speed: how many times faster than {reference}, median over the rounds. '
        f'difference: the largest from the maps of {reference} in float32, in standard deviations of the map.'
    ]
    notes += [f'memory: {memory}.'] * (memory is not None)
    for caveat in dict.fromkeys(entry['caveat'] for entry in entries.values() if entry['caveat']):
        names = [name for name, entry in entries.items() if entry['caveat'] == caveat]
        notes.append(f'{", ".join(names)}: {caveat}.')
    return '\n'.join([*lines, *(textwrap.fill(note, WIDTH, subsequent_indent='  ') for note in notes)])


def scaling_table(result: dict[str, Any]) -> str:
    """Time and memory of square pictures, a line each."""
    memory = result['memory_kind']
    lines = [f'{"":16}{"median":>13}{"middle half":>27}{"a megapixel":>14}' + f'{"memory":>14}' * (memory is not None)]
    for point in result['points']:
        line = f'{"{} x {}".format(*point["shape"]):16}{_ms(point["median"]):>13}{_middle(point):>27}'
        line += f'{_ms(point["median"] / point["pixels"] * 1e6):>14}'
        lines.append(line + f'{_mb(point["memory"]):>14}' * (memory is not None))
    if result['exponent'] is not None:
        lines.append(f'time ~ pixels ** {result["exponent"]:.3f}, from 512 x 512 up')
    return '\n'.join(lines + [f'memory: {memory}.'] * (memory is not None))


def plot(report: dict[str, Any], path: Path) -> None:
    """Writes ``path``: bars of the implementations for each shape, or time over pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if 'scaling' in report:
        _plot_scaling(axes, report['scaling'])
    else:
        _plot_comparison(axes, report['results'])
    machine, s = report['machine'], report['settings']
    axes.set_title(
        f'{s["model"] or "Swin " + s["arch"]}, batch {s["batch"]}, {s["dtype"]}, {s["mode"]}\n'
        f'{machine["gpu"] or "{cpu}, threads: {threads}".format(**machine)}',
        fontsize='medium',
    )
    figure.savefig(path, dpi=120)


def _plot_comparison(axes: Any, results: Sequence[dict[str, Any]]) -> None:
    names = list(results[0]['implementations'])
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        entries = [result['implementations'][name] for result in results]
        places = [place + (i - (len(names) - 1) / 2) * width for place in range(len(entries))]
        medians = np.array([entry['median'] for entry in entries])
        quartiles = np.array([entry['quartiles'] for entry in entries]).T
        errors = np.abs(quartiles - medians) * 1e3
        bars = axes.bar(places, medians * 1e3, width, yerr=errors, label=name, capsize=2)
        axes.bar_label(bars, [f'{entry["speed"]:.2f}x' for entry in entries], fontsize='x-small')
    axes.set_xticks(range(len(results)), ['{} x {}'.format(*result['shape']) for result in results])
    axes.set_ylabel('median time, ms, with the middle half')
    axes.legend(title=f'n x: speed over {results[0]["reference"]}')


def _plot_scaling(axes: Any, scaling: dict[str, Any]) -> None:
    pixels = np.array([point['pixels'] for point in scaling['points']])
    medians = np.array([point['median'] for point in scaling['points']])
    axes.loglog(pixels, medians * 1e3, 'o-', label='measured')
    if scaling['exponent'] is not None:
        fitted = pixels >= FITTED_FROM
        middle = np.exp(np.log(medians[fitted]).mean() - scaling['exponent'] * np.log(pixels[fitted]).mean())
        line = middle * pixels[fitted] ** scaling['exponent'] * 1e3
        axes.loglog(pixels[fitted], line, '--', label=f'pixels ** {scaling["exponent"]:.3f}')
    axes.set_xlabel('pixels')
    axes.set_ylabel('median time, ms')
    axes.legend()


def _ms(seconds: float) -> str:
    return f'{seconds * 1e3:,.{1 if seconds >= 0.1 else 3}f} ms'


def _middle(entry: dict[str, Any]) -> str:
    first, third = entry['quartiles']
    return f'{_ms(first)} - {_ms(third)}'


def _mb(size: int | None) -> str:
    return _shown(None if size is None else size / 1e6, ',.1f', ' MB')


def _shown(value: float | None, form: str, unit: str = '') -> str:
    return '' if value is None else f'{value:{form}}{unit}'
