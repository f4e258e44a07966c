"""What train.py and test.py share: their common flags, the config they make, the runner built from it."""

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if importlib.util.find_spec('swin_mm') is None:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config, DictAction  # noqa: E402
from mmengine.device import get_device  # noqa: E402
from mmengine.registry import RUNNERS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from swin_mm.checkpoints import CheckpointError  # noqa: E402
from swin_mm.engine.failures import RunError  # noqa: E402
from swin_mm.engine.preflight import PreflightError, find_config, move_data_root, settings_within  # noqa: E402
from swin_mm.engine.weights import CheckedWeights  # noqa: E402


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that both scripts have, as in mmdet's."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file; a relative path starts here, or else at the root of this project')
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
    cfg = Config.fromfile(find_config(args.config, ROOT))
    cfg.launcher = args.launcher
    options = dict(args.cfg_options or {})
    if 'data_root' in options:
        move_data_root(cfg, str(options.pop('data_root')))
    cfg.merge_from_dict(options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
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


def run(main: Callable[[], object]) -> None:
    """Runs a script's ``main``; one that cannot start, load or go on ends with its reason and status 1."""
    try:
        main()
    except (PreflightError, CheckpointError) as error:
        script = os.path.basename(sys.argv[0])
        sys.exit(f'{script}: {error}' if os.environ.get('LOCAL_RANK', '0') == '0' else 1)
    except RunError as error:  # of any rank: no other one may have met it
        sys.exit(f'{os.path.basename(sys.argv[0])}: rank {os.environ.get("RANK", "0")}: {error}')
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as shells say it; a training stops with less haste first: see StopOnSignal


def _use_plain_batch_norm(cfg: Config) -> bool:
    """Whether there was a SyncBN; mmcv names the parameters of both kinds alike."""
    norms = [part for _, part in settings_within(cfg.get('model') or {}, 'model') if part.get('type') == 'SyncBN']
    for norm in norms:
        norm.type = 'BN'
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
