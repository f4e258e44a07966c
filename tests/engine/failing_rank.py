"""One of two gloo ranks that train a regression; the last one has a fault. `test_distributed_failures.py` starts it.

python failing_rank.py STORE RANK FAULT WORK_DIR [SECONDS]
"""

import datetime
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from tiny_run import Batches, batches, make_runner  # noqa: E402

RANKS, STEPS, WHEN = 2, 6, 3
NAN = float('nan')


class Fault(Hook):
    """Ends or stops this process before step ``WHEN``."""

    def __init__(self, number: int):
        self.number = number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == WHEN:
            os.kill(os.getpid(), self.number)


def main(store: str, rank: str, fault: str, work_dir: str, seconds: str = '60') -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=str(RANKS), GLOO_SOCKET_IFNAME='lo')
    timeout = datetime.timedelta(seconds=float(seconds))
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=int(rank), world_size=RANKS, timeout=timeout)
    faulty = int(rank) == RANKS - 1
    faults = [None] * STEPS
    if fault.startswith('nan') and faulty:
        faults = [NAN if step == WHEN or (fault == 'nans' and step > WHEN) else None for step in range(1, STEPS + 1)]
    # A sampler deals its samples out to the ranks in turn: each rank meets its own batches in order.
    rows = batches(*faults)
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    runner = make_runner(
        work_dir,
        Batches(rows.repeat_interleave(RANKS, dim=0)),
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=wrapper),
        hooks=dict(finite_losses=dict(type='swin_mm.FiniteLosses', patience=3)),
        custom_hooks=[Fault(getattr(signal, fault))] if fault.startswith('SIG') and faulty else None,
    )
    runner.train()
    torch.save(runner.model.module.state_dict(), f'{work_dir}/weights_{rank}.pth')


if __name__ == '__main__':
    main(*sys.argv[1:])
