"""Times the Swin backbone beside other libraries', one after the other in every round, with equal weights.

    swin-mm benchmark --impl swin_mm mmdet timm torchvision --shape 800x1333 512x512 --dtype fp32 --threads 1
    swin-mm benchmark --device cuda --dtype bf16 --batch 8 --compile --out swin.json --plot swin.png
    swin-mm benchmark --mode train --model mask_rcnn_swin_t
    swin-mm benchmark --recipe mask_rcnn_swin_t --shape 800x1333
    swin-mm benchmark --v2 --shape 512x512 --threads 1
    swin-mm benchmark --scaling
    swin-mm benchmark --ablations --shape 224x224
    swin-mm benchmark --complexity

bf16 and fp16 are autocast around float32 weights. Training is a forward and a backward pass, without an optimizer.
Memory on a GPU is the peak beyond weights and inputs; on a CPU, in training, what autograd keeps for the backward pass.

``--recipe`` times the whole step of a recipe's training instead, with and without the preset `fast`: images to the
device and normalised, losses, gradients, the recipe's own optimizer. They are padded as the recipe pads its batches.
"""

import argparse
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ..backbone.arguments import ARCHS
from ..benchmark import ablations, complexity, measuring
from ..benchmark.comparing import SIDES, compare, make_image, scaling
from ..benchmark.machine import commit, machine, versions
from ..benchmark.models import our_model, whole_models
from ..benchmark.peers import IMPLEMENTATIONS, ROUNDS, Conditions, Peer, Shape, backbones
from ..benchmark.plots import plot
from ..benchmark.steps import compare_steps
from ..errors import PreflightError
from ..recipes import apply_presets, find_config

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
SHAPES = ['800x1333', '512x512']
ABLATED = ('tiny', 'small', 'base')
IMAGENET = (224, 224)  # pixels: the size at which the paper compares kinds of attention


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The report, as printed and as ``--out`` writes it; ``argv`` None is the command line. Raises PreflightError."""
    args = _parser().parse_args(argv)
    conditions, shapes = _check(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    if conditions.device.type == 'cuda':
        torch.cuda.set_device(conditions.device)
    config = _config(args)
    peers = _peers(args, config)
    for peer in peers.values():
        peer.net.to(conditions.device)

    report: dict[str, Any] = dict(settings=_settings(args, conditions, shapes, peers))
    report |= dict(machine=machine(conditions.device), versions=versions(), commit=commit())
    print(_heading(report))
    report |= _measure(args, conditions, shapes, peers, config)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + '\n')
    if args.plot:
        plot(report, args.plot)
    return report


def _measure(
    args: argparse.Namespace,
    conditions: Conditions,
    shapes: Sequence[Shape],
    peers: Mapping[str, Peer],
    config: Config | None,
) -> dict[str, Any]:
    """Measures and prints what was asked for; gives it under the name by which `plot` knows it."""
    if args.scaling:
        result = scaling(peers['swin_mm'], args.batch, conditions)
        print(measuring.scaling_table(result))
        return dict(scaling=result)
    if args.ablations:
        result = ablations.compare_methods(_archs(args), args.batch, shapes[0], conditions)
        print(f'\n{ablations.table(result)}')
        return dict(ablations=result)
    if args.complexity:
        costs = complexity.costs_of_stages('tiny', IMAGENET)
        print(f'\n{complexity.stages_table(costs, IMAGENET)}\n', flush=True)
        result = complexity.growth(args.batch, conditions)
        print(complexity.growth_table(result))
        return dict(complexity=result)
    net = our_model(config) if args.recipe and config else None
    results = []
    for shape in shapes:
        if net is not None and config is not None:
            result = compare_steps(net, config, args.batch, shape, conditions)
        else:
            channels = next(iter(peers.values())).channels
            result = compare(peers, make_image(args.batch, shape, channels), conditions, args.compile)
        results.append(result)
        print(f'\n{measuring.comparison_table(result)}', flush=True)
    return dict(results=results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Time the Swin backbone beside other libraries')
    add = parser.add_argument
    add('--impl', nargs='+', choices=IMPLEMENTATIONS[1], help='default: all whose library is installed')
    add('--arch', choices=ARCHS, help='size of the backbone (default: tiny)')
    add('--v2', action='store_true', help='time Swin Transformer V2, which mmdet does not have')
    add('--model', metavar='CONFIG', help='time this whole model, with our backbone and with that of its library')
    add('--recipe', metavar='CONFIG', help='time whole training steps of this recipe, with and without the preset fast')
    kind = parser.add_mutually_exclusive_group().add_argument
    kind('--scaling', action='store_true', help=f'time ours on squares of {SIDES[0]} to {SIDES[-1]} pixels a side')
    kind('--ablations', action='store_true', help="time the kinds of attention of the paper's table 5")
    kind('--complexity', action='store_true', help='time and memory of window and global attention over tokens')
    add('--shape', nargs='+', metavar='HxW', help=f'sizes in pixels, height x width (default: {" ".join(SHAPES)})')
    add('--batch', type=int, metavar='N', help='images at a time (default: 1, with --recipe as many as it has)')
    add('--dtype', choices=DTYPES, help='bf16, fp16: autocast around float32 weights (default: fp32)')
    add('--mode', choices=['infer', 'train'], help='train: forward and backward (default: infer)')
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
    decided = {
        '--recipe': ('impl', 'arch', 'v2', 'model', 'scaling', 'ablations', 'complexity', 'compile', 'dtype', 'mode'),
        '--scaling': ('impl', 'shape', 'compile', 'model'),
        '--ablations': ('impl', 'v2', 'compile', 'model'),
        '--complexity': ('impl', 'arch', 'v2', 'shape', 'compile', 'model'),
        '--model': ('impl', 'arch', 'v2'),
    }
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
    if args.ablations and len(args.shape or ()) > 1:
        raise PreflightError(f'--shape must be one size with --ablations, got {" ".join(args.shape)}')
    shapes = _shapes(args.shape or SHAPES) if args.shape or not args.ablations else [IMAGENET]
    train = bool(args.recipe) or args.mode == 'train'
    return Conditions(device, DTYPES[args.dtype or 'fp32'], train, rounds), shapes


def _archs(args: argparse.Namespace) -> tuple[str, ...]:
    if args.arch:
        return (args.arch,)
    return ABLATED if args.ablations else ('tiny',)


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


def _config(args: argparse.Namespace) -> Config | None:
    """The config of ``--recipe`` or ``--model``, None without one; decides ``args.batch``. Raises PreflightError."""
    name = args.recipe or args.model
    config = Config.fromfile(find_config(name)) if name else None
    if config:
        apply_presets(config)
    if args.batch is None:
        args.batch = config.train_dataloader.batch_size if config and args.recipe else 1
    trains = args.recipe or args.mode == 'train'
    if config and trains and args.batch == 1 and config.get('default_scope') == 'mmseg':
        raise PreflightError('--batch must be at least 2 to train a segmentor: batch norm averages over pictures')
    return config


def _peers(args: argparse.Namespace, config: Config | None) -> Mapping[str, Peer]:
    """What to compare, by name: the two models of ``config``, or backbones; nothing if it is something else."""
    if args.recipe or args.ablations or args.complexity:
        return {}
    if config:
        return whole_models(config)
    version = 2 if args.v2 else 1
    names = list(dict.fromkeys(args.impl or IMPLEMENTATIONS[version]))
    if others := [name for name in names if name not in IMPLEMENTATIONS[version]]:
        raise PreflightError(f'{others[0]} has no Swin Transformer V2: leave it out of --impl')
    if args.scaling:
        names = ['swin_mm']
    missing = [name for name in names if find_spec(name) is None]
    if missing and args.impl:
        raise PreflightError(f'{missing[0]} is not installed: pip install {missing[0]}, or leave it out of --impl')
    for name in missing:
        print(f'{name} is not installed and left out')
    return backbones(args.arch or 'tiny', [name for name in names if name not in missing], version)


def _settings(
    args: argparse.Namespace, conditions: Conditions, shapes: Sequence[Shape], peers: Mapping[str, Peer]
) -> dict[str, Any]:
    """The command line, with what its defaults became."""
    arch = None if args.model or args.recipe else ', '.join(_archs(args))
    sides = SIDES if args.scaling else complexity.SIDES if args.complexity else ()
    sizes = [(side, side) for side in sides] or shapes
    decided = dict(impl=list(peers), arch=arch, shape=[list(shape) for shape in sizes], rounds=conditions.rounds)
    decided |= dict(device=str(conditions.device), out=str(args.out), plot=str(args.plot))
    if args.recipe:
        decided |= dict(impl=['recipe', 'recipe+fast'], dtype="the recipe's dtype", mode='whole steps of training')
    else:
        decided |= dict(dtype=args.dtype or 'fp32', mode=args.mode or 'infer')
    return vars(args) | decided


def _heading(report: dict[str, Any]) -> str:
    m, s = report['machine'], report['settings']
    where = m['gpu'] or f'{m["cpu"]}, {m["threads"]} of {m["cores"]} cores'
    what = s['recipe'] or s['model'] or f'Swin {"V2 " if s["v2"] else ""}{s["arch"]}'
    loaded = textwrap.fill(', '.join(map(' '.join, report['versions'].items())), measuring.WIDTH)
    return f'{what}, batch {s["batch"]}, {s["dtype"]}, {s["mode"]}, {s["rounds"]} rounds\n{where}\n{loaded}'
