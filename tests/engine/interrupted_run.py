"""A small training by mmengine with the hooks that make it go on: random augmentation, drop path, averages."""

import functools
import random
import signal
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn

from swin_mm import SwinTransformer

PICTURES = 10


@DATASETS.register_module(name='NoisyPictures')
class Pictures:
    """Noise of three random generators on 32x32 pixels; half of them upright. The file ``reads`` lists the reads."""

    def __init__(self, reads: str):
        self.reads = Path(reads)
        self.metainfo = dict(classes=('a', 'b'))

    def full_init(self) -> None:
        """mmengine's wrappers of data sets ask for it."""

    def __len__(self) -> int:
        return PICTURES

    def get_data_info(self, i: int) -> dict:
        return dict(width=31 + i % 2, height=32)

    def __getitem__(self, i: int) -> dict:
        with self.reads.open('a') as file:
            file.write(f'{i} ')
        noise = random.random() + np.random.rand(3, 32, 32).astype(np.float32) + torch.randn(3, 32, 32).numpy()
        return dict(image=torch.from_numpy(noise) + i / PICTURES, label=torch.tensor(i % 2))


class Classifier(BaseModel):
    """A very small Swin with every kind of random number in its forward pass, and running statistics."""

    def __init__(self):
        super().__init__()
        arch = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), drop_path_rate=0.5, drop_rate=0.1)
        self.backbone = SwinTransformer(out_indices=(3,), **arch)
        self.norm, self.head = nn.BatchNorm1d(64), nn.Linear(64, 2)

    def forward(self, image: torch.Tensor, label: torch.Tensor, mode: str) -> dict | list:
        x = self.norm(self.backbone(image)[-1].mean((2, 3)))
        scores = self.head(x * (1 + 0.1 * np.random.rand() + 0.1 * random.random()))
        return dict(loss=nn.functional.cross_entropy(scores, label)) if mode == 'loss' else list(scores)


class Receives(Hook):
    """Sends this process ``number`` in the middle of iteration ``at``, counted from 0."""

    def __init__(self, at: int, number: int):
        self.at, self.number = at, number

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.at:
            signal.raise_signal(self.number)  # of this thread, at once: two that are sent may arrive as one


def config(work_dir: Path, by_epoch: bool = True, workers: int = 0, **changes: Any) -> dict:
    """Settings for `Runner`: three epochs of five batches, or 15 iterations, one checkpoint for each five."""
    sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)
    loader = dict(
        batch_size=2, num_workers=workers, persistent_workers=workers > 0, sampler=sampler,
        dataset=dict(type='NoisyPictures', reads=str(work_dir / 'reads.txt')), collate_fn=dict(type='default_collate'),
    )  # fmt: skip
    schedule = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
        dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, begin=0, end=3, convert_to_iter_based=by_epoch),
    ]
    return dict(
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=3) if by_epoch else dict(by_epoch=False, max_iters=15),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2), clip_grad=dict(max_norm=1.0)),
        param_scheduler=schedule[: 2 if by_epoch else 1],
        default_hooks=dict(
            checkpoint=dict(type='swin_mm.SafeCheckpointHook', interval=1 if by_epoch else 5, by_epoch=by_epoch)
        ),
        custom_hooks=[
            dict(type='EMAHook', momentum=0.1),
            *(dict(type=f'swin_mm.{name}') for name in ('CheckedWeights', 'ContinuedRun', 'StopOnSignal')),
        ],
        randomness=dict(seed=3),
        log_level='WARNING',
        **changes,
    )


def train(
    settings: dict, hooks: tuple[Hook, ...] = (), resume: str | bool | None = None, runner_class: type = Runner
) -> Runner:
    """The runner after its training, which went on from the checkpoint ``resume``, or from the newest one if True."""
    cfg = Config(settings)
    settings = {key: value for key, value in settings.items() if key != 'model_wrapper_cfg'}  # read from the config
    torch.manual_seed(0)  # equal weights, whatever seed the run draws
    runner = runner_class(
        model=Classifier(), cfg=cfg, experiment_name=uuid.uuid4().hex, resume=bool(resume),
        load_from=resume if isinstance(resume, str) else None, **settings,
    )  # fmt: skip
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def interrupted(
    settings: dict, at: int, number: int = signal.SIGTERM, resume: str | None = None, **options: Any
) -> str:
    """The checkpoint of a training that gets a signal in iteration ``at``; ``options`` are those of `train`."""
    with pytest.raises(SystemExit) as end:
        train(settings, (Receives(at, number),), resume, **options)
    assert end.value.code == 0
    return str(Path(settings['work_dir'], 'interrupted.pth'))


def outcome(runner: Runner) -> dict[str, torch.Tensor]:
    """Everything that a training changes: weights, averages, optimizer and schedules."""
    averages = [hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model')]
    found = dict(runner.model.state_dict())
    found |= {f'ema.{key}': value for model in averages for key, value in model.state_dict().items()}
    optimizer = runner.optim_wrapper.optimizer.state_dict()
    for i, state in optimizer['state'].items():
        found |= {f'{i}.{key}': torch.as_tensor(value) for key, value in state.items()}
    rates = [[group['lr'], group['weight_decay']] for group in optimizer['param_groups']]
    steps = [[scheduler.last_step, *scheduler._last_value] for scheduler in runner.param_schedulers]
    return found | dict(rates=torch.tensor(rates), steps=torch.tensor(steps))


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """The names of what is not equal to the bit."""
    return [key for key in a.keys() | b.keys() if key not in a or key not in b or not torch.equal(a[key], b[key])]


def reads(settings: dict) -> list[int]:
    """The pictures that were read so far."""
    return [int(word) for word in Path(settings['work_dir'], 'reads.txt').read_text().split()]


@functools.cache
def uninterrupted(base: Path, **options: Any) -> dict[str, torch.Tensor]:
    """The `outcome` of the training in one go; ``options`` are those of `config`."""
    folder = base / '-'.join(['whole', *map(str, options.values())])
    folder.mkdir()
    return outcome(train(config(folder, **options)))
