"""A regression with batch norm on batches that a test makes, and mmengine's runner with the hooks of the recipes."""

import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import Dataset

import swin_mm  # noqa: F401  installs what checkpoints need

ROOT = Path(__file__).parents[2]
HOOKS = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py').default_hooks


class Regression(BaseModel):
    """Losses of a linear layer after a batch norm; ``spare`` has a gradient that is NaN where its input is 0."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 1)
        self.spare = nn.Parameter(torch.ones(1))

    def forward(self, inputs: list[Tensor], data_samples: list, mode: str) -> dict[str, Tensor]:
        """The loss and a second one that is 0 and finite for every finite input."""
        inputs = torch.stack(inputs)
        loss = self.linear(self.norm(inputs)).square().mean()
        return dict(loss=loss, loss_root=(self.spare * inputs[0, 0]).abs().sqrt().sum())


class Batches(Dataset):
    """Rows of ``values`` (N, 3) as samples from ``row_0.jpg``, ``row_1.jpg``, ..."""

    metainfo: dict = {}  # noqa: RUF012  mmengine's contract

    def __init__(self, values: Tensor):
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.values[index], data_samples=BaseDataElement(metainfo=dict(img_path=f'row_{index}.jpg')))


def batches(*faults: float | None) -> Tensor:
    """Four rows a batch; the first value of a batch is its fault, None for none."""
    values = torch.randn(len(faults), 4, 3, generator=torch.Generator().manual_seed(0))
    for batch, fault in zip(values, faults, strict=True):
        if fault is not None:
            batch[0, 0] = fault
    return values.flatten(0, 1)


def make_runner(work_dir: str | os.PathLike, dataset: Dataset, loader: dict | None = None, **settings) -> Runner:
    """A runner over ``dataset`` in order, four samples a batch, that saves after each iteration."""
    default_hooks = {
        **HOOKS,
        'checkpoint': {**HOOKS['checkpoint'], 'by_epoch': False, 'interval': 1, 'max_keep_ckpts': -1},
        'logger': dict(type='LoggerHook', interval=1),
        **settings.pop('hooks', {}),
    }
    for name in ('visualization', 'curves'):
        default_hooks.pop(name, None)
    return Runner(
        model=settings.pop('model', None) or Regression(),
        work_dir=str(work_dir),
        experiment_name=Path(work_dir).name + os.urandom(4).hex(),  # mmengine keeps loggers and hubs by name
        train_dataloader=dict(
            dataset=dataset,
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
            collate_fn=dict(type='pseudo_collate'),
        )
        | (loader or {}),
        train_cfg=settings.pop('train_cfg', dict(by_epoch=True, max_epochs=1)),
        optim_wrapper=settings.pop('optim_wrapper', None) or dict(optimizer=dict(type='AdamW', lr=0.1)),
        default_hooks=default_hooks,
        log_processor=dict(window_size=50),
        default_scope='mmengine',
        env_cfg=dict(cudnn_benchmark=False),
        **settings,
    )
