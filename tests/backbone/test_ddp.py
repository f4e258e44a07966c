"""Two processes on the CPU: DDP with ``find_unused_parameters=False`` trains every choice of maps and frozen stages."""

import copy
import itertools
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from swin_mm import SwinTransformer

SMALL = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), drop_path_rate=0.0)
CASES = [
    dict(),
    dict(with_cp=True),
    dict(out_indices=(1, 2)),
    dict(out_indices=(0,), use_abs_pos_embed=True),
    dict(frozen_stages=1),
    dict(frozen_stages=2, with_cp=True),
    dict(out_indices=(0, 3), frozen_stages=1, with_cp=True),
    dict(frozen_stages=4),
]
SUBSETS = [subset for k in range(1, 5) for subset in itertools.combinations(range(4), k)]
EVERY_CASE = [
    dict(out_indices=subset, frozen_stages=stages, with_cp=with_cp)
    for subset, stages, with_cp in itertools.product(SUBSETS, range(-1, 5), (False, True))
]
RANKS = 2


class Dense(nn.Module):
    """A backbone with a layer on each map, which learns whatever is frozen."""

    def __init__(self, **arguments):
        super().__init__()
        self.backbone = SwinTransformer(**SMALL, **arguments)
        self.heads = nn.ModuleList(nn.Conv2d(channels, 2, 1) for channels in self.backbone.out_channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [head(m) for head, m in zip(self.heads, self.backbone(image), strict=True)]


def loss_of(net: nn.Module, image: Tensor) -> Tensor:
    return sum((m * torch.linspace(-1, 1, m.numel()).view_as(m)).sum() for m in net(image))


def train_a_little(arguments: dict, rank: int) -> None:
    """Raises unless the gradients after each of two passes are the mean of what each rank's picture alone gives."""
    torch.manual_seed(0)
    net = Dense(**arguments).train()
    alone = copy.deepcopy(net).train()
    parallel = DistributedDataParallel(net, find_unused_parameters=False)
    for _ in range(2):  # a parameter without gradient is noticed in the second forward pass
        images = torch.randn(RANKS, 1, 3, 45, 50)
        net.zero_grad()
        alone.zero_grad()
        loss_of(parallel, images[rank]).backward()
        sum(loss_of(alone, image) for image in images).div(RANKS).backward()
        for (name, p), q in zip(net.named_parameters(), alone.parameters(), strict=True):
            if p.requires_grad:
                torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f'{n}: {m}')
            else:
                assert p.grad is None, name


def worker(rank: int, store: str, cases: list[dict]) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')  # the machine's name need not resolve
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=RANKS)
    try:
        for arguments in cases:
            try:
                train_a_little(arguments, rank)
            except Exception as error:
                raise AssertionError(f'{arguments}: {error}') from error
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason='PyTorch was built without gloo')
@pytest.mark.parametrize(
    'cases', [CASES, pytest.param(EVERY_CASE, marks=pytest.mark.slow)], ids=['some', f'all {len(EVERY_CASE)}']
)
def test_two_processes_train_without_unused_parameters(tmp_path, cases):
    mp.spawn(worker, args=(str(tmp_path / 'store'), cases), nprocs=RANKS)
