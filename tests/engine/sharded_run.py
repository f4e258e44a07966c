"""One of two gloo ranks that train under FSDP, are interrupted and resumed. `test_sharded.py` starts it.

python sharded_run.py STORE RANK WORK_DIR
"""

import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import pytest  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from interrupted_run import Classifier, Receives, config  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS  # noqa: E402
from mmengine.runner._flexible_runner import FlexibleRunner  # noqa: E402
from torch.distributed.fsdp import FullyShardedDataParallel  # noqa: E402

from swin_mm.engine.model_wrappers import full_state  # noqa: E402
from swin_mm.engine.newest import agreed_checkpoint  # noqa: E402
from swin_mm.engine.signals import Stopped  # noqa: E402
from swin_mm.errors import CheckpointError  # noqa: E402

MODELS.register_module(name='TinyClassifier')(Classifier)


def make_runner(work_dir: Path, number: int, resume: str | None = None) -> FlexibleRunner:
    settings = config(work_dir, by_epoch=False)
    settings['custom_hooks'] = [hook for hook in settings['custom_hooks'] if hook['type'] != 'EMAHook']
    settings['custom_hooks'].append(dict(type='swin_mm.FiniteCheckpoints'))
    settings['default_hooks']['finite'] = dict(type='swin_mm.FiniteLosses')
    sharded = dict(
        type='FSDPStrategy',
        model_wrapper=dict(type='swin_mm.ShardedBlocks', use_orig_params=True),
        state_dict_cfg='full',
    )
    model = dict(type='TinyClassifier')
    torch.manual_seed(0)
    return FlexibleRunner(
        model=model, cfg=Config(dict(model=model)), strategy=sharded, experiment_name=f'{work_dir.name}_{number}',
        resume=resume is not None, load_from=resume, **settings,
    )  # fmt: skip


def interrupted(runner: FlexibleRunner, at: int, number: int | None) -> None:
    if number is not None:
        runner.register_hook(Receives(at, number))
    try:
        runner.train()
    except Stopped:
        return
    raise AssertionError('it was not stopped')


def agree(one: Path, other: Path) -> None:
    """Both processes take what the first one finds, unless the second does not see it."""
    first = dist.get_rank() == 0
    assert agreed_checkpoint(one if first else other) == (one / 'interrupted.pth', [])
    is_file = Path.is_file
    Path.is_file = lambda self: first and is_file(self)
    with pytest.raises(CheckpointError, match='another process does not see that file'):
        agreed_checkpoint(one)
    Path.is_file = is_file


def main(store: str, rank: str, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE='2', GLOO_SOCKET_IFNAME='lo')
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=int(rank), world_size=2)
    whole, parts = Path(folder, 'whole'), Path(folder, 'parts')
    for path in (whole, parts):
        path.mkdir(exist_ok=True)
    reference = make_runner(whole, 0)
    reference.train()
    assert len(FullyShardedDataParallel.fsdp_modules(reference.model)) == 5  # the blocks, and the rest
    norms = [None, None]
    dist.all_gather_object(norms, reference.optim_wrapper.message_hub.get_scalar('train/grad_norm').data[0].tolist())
    assert norms[0] == norms[1], 'gradients are clipped by the norm of all parts, not by that of each'
    last = str(parts / 'interrupted.pth')
    interrupted(make_runner(parts, 0), 6, signal.SIGTERM if rank == '1' else None)
    interrupted(make_runner(parts, 1, last), 11, signal.SIGTERM if rank == '0' else None)
    agree(parts, whole)
    resumed = make_runner(parts, 2, last)
    resumed.train()
    found, wanted = full_state(resumed.model), full_state(reference.model)
    assert found.keys() == wanted.keys()
    # Each process has running statistics of its own, and those of the first one are saved.
    compared = [key for key in found if rank == '0' or 'running' not in key]
    assert [key for key in compared if not torch.equal(found[key], wanted[key])] == []
    saved = torch.load(whole / 'iter_15.pth', weights_only=True)['state_dict']
    assert [key for key in compared if not torch.equal(saved[key], wanted[key])] == []
    Classifier().load_state_dict(saved)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main(*sys.argv[1:])
