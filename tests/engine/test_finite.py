"""Steps that are not finite leave no trace: a run with them equals the run that never met their batches."""

import copy
import functools
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner
from samples.tiny_segmentation import CONFIG as SEGMENTATION
from samples.tiny_segmentation import write_data as write_labelled
from samples.tiny_training import CONFIG as DETECTION
from samples.tiny_training import write_data
from tiny_run import Batches, Regression, batches, make_runner

from swin_mm.engine.finite import FiniteLosses, images_in
from swin_mm.errors import RunError

NAN, INF = math.nan, math.inf
OPTIMIZERS = [
    dict(optimizer=dict(type='AdamW', lr=0.1)),
    dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1), clip_grad=dict(max_norm=0.1)),
]


def train(work_dir, *faults, keep=None, **settings) -> Runner:
    """A run over batches with ``faults``; ``keep`` are the indices of the batches that it meets, None for all."""
    values = batches(*faults).unflatten(0, (len(faults), 4))
    values = values if keep is None else values[keep]
    runner = make_runner(work_dir, Batches(values.flatten(0, 1)), **settings)
    runner.train()
    return runner


def tensors_in(state) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    items = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for item in items for tensor in tensors_in(item)]


def saved(work_dir) -> list[dict]:
    return [torch.load(path, weights_only=True) for path in sorted(work_dir.glob('*.pth'))]


def assert_same(a: Runner, b: Runner) -> None:
    for mine, other in (
        (a.model.state_dict(), b.model.state_dict()),
        (a.optim_wrapper.state_dict(), b.optim_wrapper.state_dict()),
    ):
        mine, other = tensors_in(mine), tensors_in(other)
        assert len(mine) == len(other) > 0
        assert all(torch.equal(x, y) for x, y in zip(mine, other, strict=True))


@pytest.mark.parametrize('optim_wrapper', OPTIMIZERS, ids=['AdamW', 'SGD, clipped'])
@pytest.mark.parametrize('fault', [NAN, INF])
def test_a_batch_that_is_left_out_might_as_well_not_be_there(tmp_path, fault, optim_wrapper):
    faulty = train(tmp_path / 'a', None, fault, None, fault, fault, None, optim_wrapper=copy.deepcopy(optim_wrapper))
    clean = train(tmp_path / 'b', *[None, fault, None, fault, fault, None], keep=[0, 2, 5], optim_wrapper=optim_wrapper)
    assert_same(faulty, clean)
    files = saved(tmp_path / 'a')
    assert len(files) == 6
    assert all(x.isfinite().all() for file in files for x in tensors_in([file['state_dict'], file['optimizer']]))


@pytest.mark.parametrize('faults', [(NAN, None), (None, NAN)], ids=['first', 'last'])
def test_the_first_or_last_step_may_be_left_out(tmp_path, faults):
    faulty = train(tmp_path / 'a', *faults)
    assert_same(faulty, train(tmp_path / 'b', *faults, keep=[faults.index(None)]))


def test_gradients_alone_are_looked_at_too(tmp_path):
    """The root of 0 is 0, its derivative infinite. The running statistics, which are finite, take the batch in."""
    faulty = train(tmp_path / 'a', None, 0.0, None, optim_wrapper=dict(OPTIMIZERS[1], clip_grad=None))
    clean = train(tmp_path / 'b', None, 0.0, None, keep=[0, 2], optim_wrapper=dict(OPTIMIZERS[1], clip_grad=None))
    for (name, mine), other in zip(faulty.model.named_parameters(), clean.model.parameters(), strict=True):
        assert torch.equal(mine, other), name
    assert faulty.model.norm.num_batches_tracked == 3
    assert all(x.isfinite().all() for file in saved(tmp_path / 'a') for x in tensors_in(file['state_dict']))


@pytest.mark.parametrize(
    ('faults', 'factors'),
    [((None, NAN, None, None), (0, 0, 0.5, 0.5)), ((NAN, None, None, None), (0, 0.5, 0.5, 0.5)), ((NAN, NAN), (0, 0))],
)
def test_gradients_that_accumulate_stay_clean(tmp_path, faults, factors):
    """A loop in plain PyTorch: what a batch counts in the mean of two, 0 where it is left out or its update is."""
    settings = dict(optimizer=dict(type='SGD', lr=0.1), accumulative_counts=2)
    runner = train(tmp_path, *faults, optim_wrapper=settings)
    model = Regression().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i, (rows, factor) in enumerate(zip(batches(*faults).split(4), factors, strict=True)):
        if rows.isfinite().all():
            losses = model(list(rows), [], 'loss')
            (factor * (losses['loss'] + losses['loss_root'])).backward()
        if i % 2 and any(factors[i - 1 : i + 1]):
            optimizer.step()
            optimizer.zero_grad()
    for (name, value), other in zip(runner.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(value, other, msg=name)


@pytest.fixture
def amp(monkeypatch):
    """mmengine's mixed precision, which asks for a GPU, with PyTorch's loss scaler for the CPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', functools.partial(torch.amp.GradScaler, 'cpu'))
    return functools.partial(dict, type='AmpOptimWrapper', optimizer=dict(type='AdamW', lr=0.1))


def test_mixed_precision(tmp_path, amp):
    faulty = train(tmp_path / 'a', None, NAN, None, INF, optim_wrapper=amp())
    assert_same(faulty, train(tmp_path / 'b', None, NAN, None, INF, keep=[0, 2], optim_wrapper=amp()))
    assert faulty.optim_wrapper.loss_scaler.get_scale() == 2**16


def test_infinite_gradients_are_the_loss_scaler_s(tmp_path, amp):
    """Its scale falls, and steps that it leaves out are no fault."""
    faults = [None] + 12 * [0.0]
    runner = train(tmp_path, *faults, optim_wrapper=amp())
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0 ** (16 - 12)
    with pytest.raises(RunError, match='gradients not finite'):
        train(tmp_path / 'off', *faults, optim_wrapper=amp(loss_scale=dict(enabled=False)))


def test_averaged_weights_stay_finite(tmp_path):
    train(tmp_path, None, NAN, None, custom_hooks=[dict(type='EMAHook')])
    files = saved(tmp_path)
    assert len(files) == 3
    assert all(x.isfinite().all() for file in files for x in tensors_in(file['ema_state_dict']))


def test_pictures_and_losses_are_named_and_the_log_goes_on(tmp_path):
    runner = train(tmp_path, None, NAN, None)
    log = next(tmp_path.rglob('*.log')).read_text()
    (line,) = [line for line in log.splitlines() if 'is left out' in line]
    assert 'ERROR' in line
    assert 'step 2 is left out on all ranks: loss, loss_root not finite for row_4.jpg, row_5.jpg, row_6.jpg' in line
    assert '1 in a row, 1 in all' in line
    assert all(math.isfinite(x) for x in runner.message_hub.get_scalar('train/loss').data[0])
    assert 'nan' not in log.replace(line, '')


def test_a_run_of_nothing_else_ends_and_keeps_its_checkpoints(tmp_path):
    hooks = dict(finite_losses=dict(type='swin_mm.FiniteLosses', patience=3))
    train(tmp_path / 'a', *[None, NAN, NAN] * 3, hooks=hooks)  # never three in a row
    with pytest.raises(RunError, match=r'3 steps in a row .*row_12\.jpg.* The weights are finite: lower') as failure:
        train(tmp_path / 'b', None, NAN, NAN, NAN, None, hooks=hooks)
    assert str(tmp_path / 'b') in str(failure.value)
    files = saved(tmp_path / 'b')
    assert len(files) == 3
    assert all(x.isfinite().all() for file in files for x in tensors_in(file['state_dict']))


def test_weights_that_are_not_finite_are_the_reason(tmp_path):
    model = Regression()
    torch.nn.init.constant_(model.linear.weight, NAN)
    with pytest.raises(RunError, match=r'The weights are not finite either \(linear.weight\): start from others'):
        train(tmp_path, *12 * [None], model=model, hooks=dict(finite_checkpoints=dict(type='IterTimerHook')))


@pytest.mark.parametrize('fault', [NAN, INF])
def test_no_such_weights_are_saved(tmp_path, fault):
    class Overflow(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 1:
                torch.nn.init.constant_(runner.model.linear.weight, fault)

    with pytest.raises(RunError, match=r'must not hold NaN or infinite weights, got linear\.weight'):
        train(tmp_path, *5 * [None], custom_hooks=[Overflow()])
    (file,) = saved(tmp_path)
    assert all(x.isfinite().all() for x in tensors_in(file['state_dict']))


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match='patience must be >= 1, got patience=0'):
        FiniteLosses(patience=0)
    runner = train(tmp_path, None)
    runner.optim_wrapper = object()
    with pytest.raises(TypeError, match='needs one OptimWrapper, got object'):
        FiniteLosses().before_run(runner)


def test_other_hooks_see_the_losses_of_a_step_that_is_left_out(tmp_path):
    """mmdet's CheckInvalidLossHook looks for one named ``loss``."""

    class Sees(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append(float(outputs['loss']))

    seen = []
    runner = train(tmp_path, None, NAN, None, custom_hooks=[Sees()])
    assert [value == value for value in seen] == [True, False, True]
    logged, _ = runner.message_hub.get_scalar('train/loss').data
    assert len(logged) == 2
    assert all(math.isfinite(value) for value in logged)


def test_wrapper_is_left_as_it_was(tmp_path):
    assert 'update_params' not in vars(train(tmp_path, None, NAN).optim_wrapper)


def test_pictures_are_found_however_a_batch_is_nested():
    sample = Batches(torch.zeros(2, 3))
    assert images_in([sample[0], (sample[1], dict(branch=[sample[0]]))]) == ['row_0.jpg', 'row_1.jpg', 'row_0.jpg']
    assert images_in(dict(inputs=torch.zeros(1), data_samples=None)) == []


@TRANSFORMS.register_module()
class Spoil:
    """Makes every box of the picture ``name`` a point, or one of its pixels NaN."""

    def __init__(self, name: str, what: str):
        self.name, self.what = name, what

    def __call__(self, results: dict) -> dict:
        if results['img_path'].endswith(self.name):
            if self.what == 'box':
                results['gt_bboxes'].tensor[:, 2:] = results['gt_bboxes'].tensor[:, :2]
            else:
                results['img'] = results['img'].astype('float32')
                results['img'][0, 0, 0] = NAN
        return results


@pytest.mark.parametrize(('task', 'what'), [('detection', 'box'), ('detection', 'pixel'), ('segmentation', 'pixel')])
def test_one_bad_picture_does_not_spoil_a_model(tmp_path, monkeypatch, task, what):
    """The recipes' own models: a loss that is not finite in the first or second step of two."""
    monkeypatch.chdir(tmp_path)
    text, write = (DETECTION, write_data) if task == 'detection' else (SEGMENTATION, write_labelled)
    (tmp_path / 'tiny.py').write_text(text.replace('not/here/', str(write(tmp_path / 'data')) + '/'))
    cfg = Config.fromfile('tiny.py')
    cfg.work_dir, cfg.val_cfg, cfg.val_dataloader, cfg.val_evaluator = str(tmp_path / 'run'), None, None, None
    cfg.model.backbone.drop_path_rate = 0.0
    for part in ('decode_head', 'auxiliary_head') if task == 'segmentation' else ():
        cfg.model[part].norm_cfg.type = 'BN'
    cfg.default_hooks.checkpoint.pop('save_best', None)
    cfg.train_dataloader.dataset.pipeline.insert(-1, dict(type='mmengine.Spoil', name='2.jpg', what=what))
    Runner.from_cfg(cfg).train()
    (file,) = saved(tmp_path / 'run')
    assert all(x.isfinite().all() for x in tensors_in([file['state_dict'], file['optimizer']]) if x.is_floating_point())
    log = next(tmp_path.rglob('*.log')).read_text()
    (line,) = [line for line in log.splitlines() if 'is left out' in line]
    assert '2.jpg' in line
    assert '1 in all' in line
