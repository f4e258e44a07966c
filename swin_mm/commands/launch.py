"""What commands share: the flags of training and testing, the config and the runner.

Importing it lets mmengine run nothing that a file holds.
"""

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn
from torch.distributed import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from .. import compat
from ..errors import PreflightError
from ..recipes import apply_presets, find_config, move_data_root, type_name

compat.trust_no_file()

MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
CONFIG_HELP = 'config file, or the name of a recipe (`swin-mm recipes` lists them)'


def make_parser(description: str, **config: str) -> argparse.ArgumentParser:
    """A parser with the flags that training and testing share, as in mmdet's scripts.

    ``config`` are options of the argument of that name.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help=CONFIG_HELP, **config)  # type: ignore[arg-type]
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (default: work_dirs/CONFIG)')
    add_cfg_options(parser)
    add_cache(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by older launchers')
    return parser


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds the flag whose values `read_config` merges."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings to change in the config; lists as key="[a,b]" or key=a,b, without spaces. data_root=FOLDER '
        'moves every data set and evaluator of the config there; a relative data_root starts at the working directory. '
        'presets=NAME,NAME merges presets (`swin-mm recipes` lists them)',
    )


def by_the_first(launcher: str, work: Callable[[], str]) -> str:
    """What ``work`` gives, done by the first of the processes of ``launcher`` alone; the others wait for it.

    Raises its PreflightError in the first, and one that points to the first in the others.
    """
    if launcher == 'none':
        return work()
    if launcher != 'pytorch':
        raise PreflightError(f'--data needs --launcher pytorch or none, got {launcher}: run `swin-mm init` before it')
    store, rank, processes = _launchers_store()
    if rank != 0:
        store.wait(['result'])
        result = store.get('result').decode()
        store.set(f'read by {rank}', '')
        if not result:
            raise PreflightError('the first process could not write a config, and says why')
        return result
    result = ''
    try:
        result = work()
    finally:
        store.set('result', result)
        store.wait([f'read by {other}' for other in range(1, processes)])
    return result


@functools.cache  # if the first process serves it, the process group uses the same one: it must not end before
def _launchers_store() -> tuple[Store, int, int]:
    """The store by which processes of torchrun find each other before they are a group, (store, rank, processes)."""
    store, rank, processes = next(rendezvous('env://'))
    return PrefixStore(f'swin_mm/{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}', store), rank, processes


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that moves the folder of downloads; worker processes inherit it."""
    parser.add_argument(
        '--cache', action=_Cache, metavar='FOLDER', help="downloaded weights (default: SWIN_MM_CACHE, or torch.hub's)"
    )


class _Cache(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, folder: Any, *_: Any) -> None:
        os.environ['SWIN_MM_CACHE'] = os.path.abspath(os.path.expanduser(folder))
        setattr(namespace, self.dest, folder)


def load_config(args: argparse.Namespace) -> Config:
    """The config that ``args`` name, with ``args`` merged in; raises PreflightError for one that is not there."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(cfg.filename).stem)
    return cfg


def read_config(name: str, options: dict[str, Any] | None = None) -> Config:
    """The config of that name with the ``--cfg-options`` merged in; raises PreflightError if it is not there."""
    cfg = Config.fromfile(find_config(name))
    options = dict(options or {})
    if 'presets' in options:
        cfg.presets = options.pop('presets')
    apply_presets(cfg)
    if 'data_root' in options:
        move_data_root(cfg, str(options.pop('data_root')))
    cfg.merge_from_dict(options)
    return cfg


def add_hooks(cfg: Config, **hooks: str) -> None:
    """Adds each hook of ours, KEY='NAME', to ``default_hooks`` of ``cfg``, unless the key or the hook is there.

    A key that is there counts whatever it holds: ``default_hooks.KEY=None`` leaves the hook out, where mmengine knows
    None for its own hooks only.
    """
    chosen = cfg.setdefault('default_hooks', {})
    present = {type_name(hook) for hook in [*chosen.values(), *(cfg.get('custom_hooks') or [])] if hook}
    for key, name in hooks.items():
        if key not in chosen and name not in present:
            chosen[key] = dict(type=f'swin_mm.{name}')
    for key in [key for key, hook in chosen.items() if hook is None and key not in MMENGINE_HOOKS]:
        del chosen[key]


def build_runner(cfg: Config, **hooks: str) -> Runner:
    """The runner of ``cfg`` with ``hooks`` as in `add_hooks`, and with `CheckedWeights`.

    Processes without GPUs get plain batch norms in place of synchronised ones, which need them; the config keeps those.
    mmengine does the same for one process.
    """
    add_hooks(cfg, weights='CheckedWeights', **hooks)
    without_gpus = cfg.launcher != 'none' and get_device() == 'cpu'
    if without_gpus and cfg.launcher == 'pytorch':
        _use_gloo(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if without_gpus:
        # FlexibleRunner would build its model later.
        model = runner.model if isinstance(runner.model, nn.Module) else runner.strategy.build_model(runner.model)
        runner.model = revert_sync_batchnorm(model)
    return runner


def _use_gloo(cfg: Config) -> None:
    """mmengine would select a CUDA device for every process, whatever the backend is."""
    cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    if cfg.get('runner_type') != 'FlexibleRunner':
        cfg.setdefault('model_wrapper_cfg', wrapper)
    elif type_name(cfg.setdefault('strategy', dict(type='DDPStrategy'))) == 'DDPStrategy':
        cfg.strategy.setdefault('model_wrapper', wrapper)
