"""Idioms of OpenMMLab that people use: each is trained, interrupted and resumed, and ends as if it had not been."""

import copy
from pathlib import Path

import pytest
from interrupted_run import config, differing, interrupted, outcome, train
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook
from mmengine.registry import METRICS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner

pytestmark = pytest.mark.usefixtures('quick_runner')
SCORES = (3.0, 5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 6.0)  # of the validations, in their order


@METRICS.register_module()
class Scripted(BaseMetric):
    """One of `SCORES` for each epoch, or for five iterations, that ``file`` counts."""

    def __init__(self, file: str):
        super().__init__()
        self.file = Path(file)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        with self.file.open('a') as file:
            file.write('.')
        return dict(score=SCORES[len(self.file.read_text()) - 1])


def validated(settings: dict, **how) -> dict:
    loader = copy.deepcopy(settings['train_dataloader']) | dict(sampler=dict(type='DefaultSampler', shuffle=False))
    file = f'{settings["work_dir"]}/validations.txt'
    return settings | dict(val_dataloader=loader, val_cfg={}, val_evaluator=dict(type='Scripted', file=file)) | how


def averages(settings):
    return settings


def iterations(settings):
    settings = validated(settings)
    settings['train_cfg'] = dict(by_epoch=False, max_iters=15, val_interval=4)
    settings['default_hooks']['checkpoint'] |= dict(save_best='score', rule='greater')
    return settings


def early_stopping(settings):
    settings = validated(settings)
    settings['train_cfg'] = dict(by_epoch=True, max_epochs=8)
    settings['custom_hooks'] += [dict(type='EarlyStoppingHook', monitor='score', rule='greater', patience=3)]
    return settings


def flexible_runner(settings):
    return settings


def tensorboard(settings):
    pytest.importorskip('tensorboard')
    settings['default_hooks'] |= dict(logger=dict(type='LoggerHook', interval=1))
    return settings | dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')]))


def wrapped_data_sets(settings):
    pictures = settings['train_dataloader']['dataset']
    both = dict(type='ConcatDataset', datasets=[pictures, copy.deepcopy(pictures)])
    settings['train_dataloader'] |= dict(dataset=dict(type='RepeatDataset', dataset=both, times=2), batch_size=8)
    return settings


def accumulation(settings):
    settings['optim_wrapper'] |= dict(accumulative_counts=2)
    return settings


BASE = """
from interrupted_run import Pictures
from mmengine.dataset import DefaultSampler, default_collate
from torch.optim import AdamW

train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=Pictures, reads=''), collate_fn=dict(type=default_collate),
)
optim_wrapper = dict(optimizer=dict(type=AdamW, lr=1e-2), clip_grad=dict(max_norm=1.0))
"""
CHILD = """
from mmengine.config import read_base
from mmengine.hooks import EMAHook
from mmengine.optim import LinearLR

from swin_mm.engine.resuming import ContinuedRun
from swin_mm.engine.saving import SafeCheckpointHook
from swin_mm.engine.signals import StopOnSignal
from swin_mm.engine.weights import CheckedWeights

with read_base():
    from .base import *

optim_wrapper.update(accumulative_counts=1)
train_cfg = dict(by_epoch=True, max_epochs=3)
param_scheduler = [dict(type=LinearLR, start_factor=0.1, by_epoch=False, begin=0, end=4)]
default_hooks = dict(checkpoint=dict(type=SafeCheckpointHook, interval=1))
custom_hooks = [
    dict(type=EMAHook, momentum=0.1), dict(type=CheckedWeights), dict(type=ContinuedRun), dict(type=StopOnSignal)
]
randomness = dict(seed=3)
"""


def read_base(settings):
    """A config in Python's own syntax, whose types are classes."""
    folder = Path(settings['work_dir'])
    (folder / 'base.py').write_text(BASE)
    (folder / 'child.py').write_text(CHILD)
    found = Config.fromfile(folder / 'child.py').to_dict()
    found['train_dataloader']['dataset'] |= dict(reads=f'{folder}/reads.txt')
    return found | dict(work_dir=str(folder))


IDIOMS = {
    idiom.__name__: idiom
    for idiom in (
        averages,
        iterations,
        early_stopping,
        flexible_runner,
        tensorboard,
        read_base,
        wrapped_data_sets,
        accumulation,
    )
}
SIGNALS = dict(iterations=(7, 11), accumulation=(5, 9))  # in a validation's iteration; where weights are updated


@pytest.mark.parametrize('name', IDIOMS)
def test_an_idiom_is_trained_interrupted_and_resumed(tmp_path, name):
    def run(folder: str) -> dict:
        (tmp_path / folder).mkdir()
        return IDIOMS[name](config(tmp_path / folder, by_epoch=name != 'iterations'))

    options = dict(runner_class=FlexibleRunner if name == 'flexible_runner' else Runner)
    whole = train(run('whole'), **options)
    parts = run('parts')
    first, second = SIGNALS.get(name, (6, 11))
    checkpoint = interrupted(parts, at=first, **options)
    checkpoint = interrupted(parts, at=second, resume=checkpoint, **options)
    resumed = train(parts, resume=checkpoint, **options)
    assert resumed.iter == whole.iter
    assert differing(outcome(resumed), outcome(whole)) == []
    assert [path.name for path in sorted((tmp_path / 'parts').glob('*.pth'))] == [
        path.name for path in sorted((tmp_path / 'whole').glob('*.pth'))
    ]
    CHECKS.get(name, lambda *_: None)(whole, resumed, tmp_path)


def check_validations(whole, resumed, tmp_path):
    """The same number of them, and the best checkpoint is that of the same one."""
    counts = [len((tmp_path / folder / 'validations.txt').read_text()) for folder in ('whole', 'parts')]
    assert counts[0] == counts[1] == 4
    assert len(list((tmp_path / 'parts').glob('best_score_iter_8.pth'))) == 1


def check_patience(whole, resumed, tmp_path):
    assert whole.epoch == 5, 'the second score is the best, and three more do not reach it'
    (hook,) = (hook for hook in resumed.hooks if isinstance(hook, EarlyStoppingHook))
    assert (hook.best_score, hook.wait_count) == (5.0, 3)


def check_losses(whole, resumed, tmp_path):
    """Each step is in the files once: those of an interrupted run are complete, though its process goes on."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = list((tmp_path / 'parts').rglob('events.out.tfevents*'))
    assert len(files) == 3
    steps = [event.step for file in files for event in EventAccumulator(str(file)).Reload().Scalars('loss')]
    assert sorted(steps) == list(range(1, 16))


CHECKS = dict(iterations=check_validations, early_stopping=check_patience, tensorboard=check_losses)
