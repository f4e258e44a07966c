"""What commands share: the flags of training and testing, the config and the runner.

Importing it lets mmengine run nothing that a file holds.
"""

import argparse
import os

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .. import compat
from ..engine.weights import CheckedWeights
from ..recipes import find_config, move_data_root, settings_within, type_name

compat.trust_no_file()

CONFIG_HELP = 'config file, or the name of a recipe (`swin-mm recipes` lists them)'


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that training and testing share, as in mmdet's scripts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (default: work_dirs/CONFIG)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings to change in the config; lists as key="[a,b]" or key=a,b, without spaces. data_root=FOLDER '
        'moves every data set and evaluator of the config there; a relative data_root starts at the working directory',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by older launchers')
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """The config that ``args`` name, with ``args`` merged in; raises PreflightError for one that is not there."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = find_config(args.config)
    cfg = Config.fromfile(path)
    cfg.launcher = args.launcher
    options = dict(args.cfg_options or {})
    if 'data_root' in options:
        move_data_root(cfg, str(options.pop('data_root')))
    cfg.merge_from_dict(options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', path.stem)
    return cfg


def build_runner(cfg: Config) -> Runner:
    """The runner of ``cfg``, which loads no checkpoint in part without a word: see `CheckedWeights`.

    Synchronised batch norms become plain ones where there is nothing to synchronise or no GPU, which they need.
    """
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        _use_gloo(cfg)
    plain = (cfg.launcher == 'none' or get_device() == 'cpu') and _use_plain_batch_norm(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if plain:
        runner.logger.info('SyncBN is BN in this run, which has one process or no GPU: the same weights, same names')
    if not any(isinstance(hook, CheckedWeights) for hook in runner.hooks):
        runner.register_hook(CheckedWeights())
    return runner


def _use_plain_batch_norm(cfg: Config) -> bool:
    """Whether there was a SyncBN; mmcv names the parameters of both kinds alike."""
    parts = (part for _, part in settings_within(cfg.get('model') or {}, 'model'))
    norms = [part for part in parts if type_name(part) in ('SyncBN', 'SyncBatchNorm')]
    for norm in norms:
        norm['type'] = 'BN'
    return bool(norms)


def _use_gloo(cfg: Config) -> None:
    """mmengine would select a CUDA device for every process, whatever the backend is."""
    cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        ),
    )
