"""Times the Swin backbone beside other libraries', one after the other in every round, with equal weights.

    python tools/benchmark.py --impl swin_mm mmdet timm torchvision --shape 800x1333 512x512 --dtype fp32 --threads 1
    python tools/benchmark.py --device cuda --dtype bf16 --batch 8 --compile --out swin.json --plot swin.png
    python tools/benchmark.py --mode train --model configs/mask_rcnn_swin_t.py
    python tools/benchmark.py --scaling

bf16 and fp16 are autocast around float32 weights. Training is a forward and a backward pass, without an optimizer.
Memory on a GPU is the peak beyond weights and inputs; on a CPU, in training, what autograd keeps for the backward pass.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import benchmark_results as results
import launch
import torch
from benchmark_models import whole_models
from benchmark_peers import IMPLEMENTATIONS, ROUNDS, Conditions, Peer, Shape, backbones
from mmengine.config import Config
from torch import Tensor

from swin_mm.backbone.arguments import ARCHS
from swin_mm.engine.preflight import PreflightError, find_config

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
SHAPES = ['800x1333', '512x512']
SIDES = (256, 384, 512, 768, 1024, 1536, 2048)  # pixels
PACKAGES = ('swin_mm', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'timm', 'triton')


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The report, as printed and as ``--out`` writes it; ``argv`` None is the command line. Raises PreflightError."""
    args = _parser().parse_args(argv)
    conditions, shapes = _check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    if conditions.device.type == 'cuda':
        torch.cuda.set_device(conditions.device)
    peers = _peers(args)
    for peer in peers.values():
        peer.net.to(conditions.device)

    report = dict(settings=_settings(args, conditions, shapes, peers), machine=_machine(conditions.device))
    report |= dict(versions=_versions(), commit=_commit())
    print(_heading(report))
    if args.scaling:
        report['scaling'] = scaling(peers['swin_mm'], args.batch, conditions)
        print(results.scaling_table(report['scaling']))
    else:
        report['results'] = []
        for shape in shapes:
            report['results'].append(compare(peers, _image(args.batch, shape), conditions, args.compile))
            print(f'\n{results.comparison_table(report["results"][-1])}', flush=True)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + '\n')
    if args.plot:
        results.plot(report, args.plot)
    return report


def compare(peers: Mapping[str, Peer], image: Tensor, conditions: Conditions, with_compiled: bool) -> dict[str, Any]:
    """The result of one shape of image: of each implementation, and then of each compiled, if wanted."""
    image, shape = image.to(conditions.device), tuple(image.shape[2:])
    reference = next((name for name in ('mmdet', 'mmseg') if name in peers), next(iter(peers)))
    everyone = dict(peers)
    if with_compiled:
        torch.compiler.reset()  # it keeps a limited number of graphs for a function
        everyone |= {f'{name}+compile': peer.compiled() for name, peer in peers.items()}
    runs = {name: (peer.net, peer.repetition(image, conditions)) for name, peer in everyone.items()}
    found = results.measure(runs, conditions)
    # What was compiled for training would be compiled once more to give maps for inference.
    differences = _differences(peers if conditions.train else everyone, reference, image, conditions)
    for name, entry in found.items():
        first_call = entry.pop('first_call')
        entry['speed'] = results.speed(entry['times'], found[reference]['times'])
        entry['compiling'] = None if name in peers else max(0.0, first_call - entry['median'])
        entry['difference'] = differences.get(name)
        entry['caveat'] = everyone[name].caveat(shape)
    return dict(shape=list(shape), reference=reference, memory_kind=conditions.memory, implementations=found)


def scaling(peer: Peer, batch: int, conditions: Conditions) -> dict[str, Any]:
    """Time and memory of ``peer`` for squares of `SIDES`, and the exponent of the growth of time with pixels."""
    runs = {}
    for side in SIDES:
        image = _image(batch, (side, side)).to(conditions.device)
        runs[side] = (peer.net, peer.repetition(image, conditions))
    points = [
        dict(shape=[side, side], pixels=side * side, **entry)
        for side, entry in results.measure(runs, conditions).items()
    ]
    slope = results.exponent([point['pixels'] for point in points], [point['median'] for point in points])
    return dict(points=points, exponent=slope, fitted_from=results.FITTED_FROM, memory_kind=conditions.memory)


def _image(batch: int, shape: Shape) -> Tensor:
    return torch.randn(batch, 3, *shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _differences(peers: Mapping[str, Peer], reference: str, image: Tensor, conditions: Conditions) -> dict[str, float]:
    """The largest difference of each one's maps from the reference's in float32, in standard deviations of the map."""
    for peer in peers.values():
        peer.net.eval()
    wanted = peers[reference].maps(image, replace(conditions, dtype=torch.float32))
    result = {}
    for name, peer in peers.items():
        pairs = zip(peer.maps(image, conditions), wanted, strict=True)
        result[name] = max(((got - want).abs().max() / want.std()).item() for got, want in pairs)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Time the Swin backbone beside other libraries')
    add = parser.add_argument
    add('--impl', nargs='+', choices=IMPLEMENTATIONS, help='implementations (default: all whose library is installed)')
    add('--arch', choices=ARCHS, help='size of the backbone (default: tiny)')
    add('--model', metavar='CONFIG', help='time this whole model, with our backbone and with that of its library')
    add('--scaling', action='store_true', help=f'time ours on squares of {SIDES[0]} to {SIDES[-1]} pixels a side')
    add('--shape', nargs='+', metavar='HxW', help=f'sizes in pixels, height x width (default: {" ".join(SHAPES)})')
    add('--batch', type=int, default=1, metavar='N', help='images at a time (default: 1)')
    add('--dtype', choices=DTYPES, default='fp32', help='bf16, fp16: autocast around float32 weights (default: fp32)')
    add('--mode', choices=['infer', 'train'], default='infer', help='train: forward and backward (default: infer)')
    add('--device', help='cpu, cuda or cuda:N (default: the GPU if there is one)')
    add('--rounds', type=int, metavar='N', help='times that each is measured (default: 10, on a GPU 50)')
    add('--threads', type=int, metavar='N', help='threads of PyTorch on the CPU (default: as many as it takes)')
    add('--compile', action='store_true', help='also compile each for every size; takes minutes each on a CPU')
    add('--out', type=Path, metavar='FILE.json', help='file for the report')
    add('--plot', type=Path, metavar='FILE.png', help='file for a picture of the times')
    return parser


def _check(args: argparse.Namespace) -> tuple[Conditions, list[Shape]]:
    """How and on what sizes to run; raises PreflightError before anything is measured."""
    for name, least in (('batch', 1), ('rounds', 3), ('threads', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise PreflightError(f'--{name} must be at least {least}, got {value}')
    decided = {'--scaling': ('impl', 'shape', 'compile', 'model'), '--model': ('impl', 'arch')}
    for flag, others in decided.items():
        for other in others:
            if getattr(args, flag[2:]) and getattr(args, other):
                raise PreflightError(f'--{other} must be left out with {flag}, which decides it')
    for name, suffix in (('out', '.json'), ('plot', '.png')):
        path = getattr(args, name)
        if path and (path.suffix != suffix or not path.parent.is_dir()):
            raise PreflightError(f'--{name} must end in {suffix} and lie in a folder that is there, got {path}')
    device = _device(args.device)
    if args.dtype == 'fp16' and device.type == 'cpu':
        raise PreflightError('--dtype fp16 must run on a GPU: fp16 is 10x slower than fp32 on CPUs. Take bf16 or fp32')
    rounds = args.rounds or ROUNDS[device.type]
    return Conditions(device, DTYPES[args.dtype], args.mode == 'train', rounds), _shapes(args.shape or SHAPES)


def _shapes(texts: Sequence[str]) -> list[Shape]:
    shapes = []
    for text in texts:
        match = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
        if not match:
            raise PreflightError(f'--shape must be HEIGHTxWIDTH in pixels, such as 800x1333, got {text}')
        shapes.append((int(match[1]), int(match[2])))
    return shapes


def _device(name: str | None) -> torch.device:
    gpus = [f'cuda:{i}' for i in range(torch.cuda.device_count())]
    known = {name: name for name in ('cpu', *gpus)} | ({'cuda': gpus[0]} if gpus else {})
    name = name or next(iter(gpus), 'cpu')
    if name not in known:
        raise PreflightError(f'--device must be one of {list(known)} on this machine, got {name}')
    return torch.device(known[name])


def _peers(args: argparse.Namespace) -> Mapping[str, Peer]:
    """What to measure, by name."""
    if args.model:
        config = Config.fromfile(find_config(args.model, launch.ROOT))
        if args.mode == 'train' and args.batch == 1 and config.get('default_scope') == 'mmseg':
            raise PreflightError('--batch must be at least 2 to train a segmentor: batch norm averages over pictures')
        return whole_models(config)
    names = list(dict.fromkeys(args.impl or IMPLEMENTATIONS))
    if args.scaling:
        names = ['swin_mm']
    missing = [name for name in names if find_spec(name) is None]
    if missing and args.impl:
        raise PreflightError(f'{missing[0]} is not installed: pip install {missing[0]}, or leave it out of --impl')
    for name in missing:
        print(f'{name} is not installed and left out')
    return backbones(args.arch or 'tiny', [name for name in names if name not in missing])


def _settings(
    args: argparse.Namespace, conditions: Conditions, shapes: Sequence[Shape], peers: Mapping[str, Peer]
) -> dict[str, Any]:
    """The command line, with what its defaults became."""
    arch = None if args.model else args.arch or 'tiny'
    sizes = [(side, side) for side in SIDES] if args.scaling else shapes
    decided = dict(impl=list(peers), arch=arch, shape=[list(shape) for shape in sizes], rounds=conditions.rounds)
    decided |= dict(device=str(conditions.device), out=str(args.out), plot=str(args.plot))
    return vars(args) | decided


def _machine(device: torch.device) -> dict[str, Any]:
    cpu = Path('/proc/cpuinfo')
    model = re.search(r'model name\s*: (.*)', cpu.read_text()) if cpu.is_file() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return dict(
        cpu=model[1] if model else platform.processor() or platform.machine(),
        cores=cores,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name(device) if device.type == 'cuda' else None,
    )


def _versions() -> dict[str, str]:
    loaded = {name: getattr(sys.modules.get(name), '__version__', None) for name in PACKAGES}
    return {'python': platform.python_version()} | {name: str(version) for name, version in loaded.items() if version}


def _commit() -> str | None:
    """This repository's commit, '-dirty' with changes; None without git."""
    command = ['git', '-C', str(launch.ROOT), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _heading(report: dict[str, Any]) -> str:
    machine, s = report['machine'], report['settings']
    where = machine['gpu'] or f'{machine["cpu"]}, {machine["threads"]} of {machine["cores"]} cores'
    what = s['model'] or f'Swin {s["arch"]}'
    versions = textwrap.fill(', '.join(map(' '.join, report['versions'].items())), results.WIDTH)
    return f'{what}, batch {s["batch"]}, {s["dtype"]}, {s["mode"]}, {s["rounds"]} rounds\n{where}\n{versions}'


if __name__ == '__main__':
    launch.run(main)
