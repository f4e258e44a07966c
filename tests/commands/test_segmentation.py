"""``train`` and ``test`` with a segmentation recipe: each flag does what it does for a detector."""

import shutil
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from samples.tiny_segmentation import CLASSES, trained
from samples.tiny_training import ROOT, SIZES

from swin_mm.commands import launch as launch_command
from swin_mm.commands import train as train_command
from swin_mm.engine.preflight import check_label_classes
from swin_mm.errors import PreflightError


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A very small segmentor, trained for two iterations."""
    return trained(tmp_path_factory.getbasetemp())


@pytest.fixture
def run(tiny, tmp_path):
    """Runs a script on the tiny recipe in the work dir ``tmp_path``; gives what its ``main`` gives."""

    def run(name, *args, options=()):
        checkpoint = [str(tiny.checkpoint)] if name == 'test' else []
        words = [str(tiny.config), *checkpoint, '--work-dir', str(tmp_path), *args]
        return import_module(f'swin_mm.commands.{name}').main(
            [*words, '--cfg-options', f'data_root={tiny.data}', *options]
        )

    return run


@pytest.fixture
def labels_of(tiny):
    """The class indices that the trained model gives a picture, without the tools: (H, W)."""
    from mmseg.apis import inference_model, init_model

    with DefaultScope.overwrite_default_scope('mmseg'):
        model = init_model(str(tiny.config), str(tiny.checkpoint), device='cpu')
        yield lambda path: inference_model(model, str(path)).pred_sem_seg.data[0].numpy()


def test_training_on_one_process_needs_no_synchronised_norms(tiny):
    assert (tiny.work_dir / 'tiny.py').read_text().count("type='SyncBN'") == 3, 'the config stays as it was'
    loaded = torch.load(tiny.checkpoint, weights_only=True)
    assert loaded['meta']['iter'] == 2
    assert tuple(loaded['meta']['dataset_meta']['classes']) == CLASSES
    with DefaultScope.overwrite_default_scope('mmseg'):
        synchronised = MODELS.build(Config.fromfile(tiny.config).model)
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in synchronised.modules())
    assert synchronised.state_dict().keys() == loaded['state_dict'].keys()


@pytest.mark.parametrize(('device', 'synchronised'), [('cpu', False), ('cuda', True)])
def test_norms_of_several_processes_stay_synchronised_on_gpus_only(monkeypatch, tiny, device, synchronised):
    cfg = Config.fromfile(tiny.config)
    with DefaultScope.overwrite_default_scope('mmseg'):
        runner = SimpleNamespace(model=MODELS.build(cfg.model))
    monkeypatch.setattr(launch_command, 'get_device', lambda: device)
    monkeypatch.setattr(launch_command.Runner, 'from_cfg', lambda cfg: runner)
    cfg.launcher = 'slurm'
    launch_command.build_runner(cfg)
    found = [isinstance(module, torch.nn.SyncBatchNorm) for module in runner.model.modules()]
    assert any(found) == synchronised


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason='PyTorch was built without gloo')
def test_flexible_runner_trains_under_a_launcher_without_gpus(run, tmp_path, monkeypatch):
    """mmengine gives its wrapper the number of a GPU, and leaves synchronised norms as they are."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    torch.distributed.init_process_group('gloo', f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        run(
            'train',
            '--launcher',
            'pytorch',
            options=['runner_type=FlexibleRunner', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None'],
        )
    finally:
        torch.distributed.destroy_process_group()
    loaded = torch.load(tmp_path / 'iter_2.pth', weights_only=True)
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {2}


def test_evaluates_and_writes_predictions_and_pictures(run, tiny, labels_of, tmp_path):
    metrics = run('test', '--out', str(tmp_path / 'out'), '--show-dir', 'drawn')
    assert {'mIoU', 'mAcc', 'aAcc'} <= metrics.keys()

    paths = sorted(tiny.data.glob('images/*.jpg'))
    written = sorted((tmp_path / 'out').iterdir())
    assert [path.name for path in written] == [f'{path.stem}.png' for path in paths]
    right = total = 0
    for picture, file in zip(paths, written, strict=True):
        expected = labels_of(picture)
        np.testing.assert_array_equal(np.asarray(Image.open(file)), expected + 1)  # as in the label files
        truth = np.asarray(Image.open(tiny.data / 'labels' / file.name))
        right, total = right + (expected + 1 == truth)[truth > 0].sum(), total + (truth > 0).sum()
    assert metrics['aAcc'] == pytest.approx(100 * right / total, abs=0.01)

    drawn = sorted(tmp_path.glob('*/drawn/*'))
    assert [path.name for path in drawn] == [path.name for path in paths]
    for path, (height, width) in zip(drawn, SIZES, strict=True):
        assert Image.open(path).size == (2 * width, height)  # what is to be found, and what is found


@pytest.mark.parametrize('also', [[], ['--show-dir', 'drawn']], ids=['alone', 'and written'])
def test_every_picture_is_shown(run, tmp_path, monkeypatch, also):
    shown = []
    monkeypatch.setattr('matplotlib.pyplot.get_backend', lambda: 'TkAgg')
    monkeypatch.setattr(
        'mmseg.visualization.SegLocalVisualizer.show',
        lambda self, image, win_name, wait_time: shown.append((win_name, wait_time, image.shape)),
    )
    run('test', '--show', '--wait-time', '0.5', *also)
    assert shown == [(f'{i}.jpg', 0.5, (height, 2 * width, 3)) for i, (height, width) in enumerate(SIZES)]
    assert len(list(tmp_path.rglob('*.[jp][pn]g'))) == (len(SIZES) if also else 0)


@pytest.mark.parametrize(
    ('args', 'options', 'words'),
    [
        (['--out', 'a.pkl'], [], r'--out must be a folder for a segmentor, got a\.pkl'),
        (['--out', __file__], [], '--out must be a folder for a segmentor, got .*py'),
        (['--out', 'out'], ['test_evaluator.type=CityscapesMetric'], '--out needs IoUMetric'),
        (['--tta'], ['tta_pipeline=None'], r'--tta needs tta_pipeline in .*tiny\.py'),
        (['--tta'], ['tta_model=None', 'tta_pipeline=None'], '--tta needs tta_pipeline and tta_model'),
        (['--show-dir', 'drawn', '--launcher', 'pytorch'], [], '--show-dir draws what the first process tests only'),
        (['--out', 'out'], ['default_scope=mmpose'], '--out works with detectors and segmentors only'),
        (['--tta'], ['default_scope=mmpose'], '--tta works with detectors and segmentors only'),
        ([], ['data_root=/gone'], r'(?s)label folder /gone/labels \(test_.*configs/upernet_swin_pico_shapes'),
        (['--tta'], ['tta_pipeline.1.transforms.2.0.num_classes=9'], r'got 9 in test_dataloader\.dataset\.pipeline\.1'),
        ([], ['model.decode_head.num_classes=4'], r'got 3 in train_dataloader\.dataset\.pipeline\.1 .* and 4 in model'),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_name(run, tmp_path, args, options, words):
    with pytest.raises(PreflightError, match=words):
        run('test', *args, options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('args', 'options', 'words'),
    [
        (['--amp'], [], '--amp .* must run on a GPU, got device=cpu'),
        (['--auto-scale-lr'], ['auto_scale_lr=None'], r'--auto-scale-lr needs .* base_batch_size'),
        ([], ['data_root=/gone'], r'(?s)image folder /gone/images.*label folder /gone/labels'),
        ([], ['model.decode_head.num_classes=4'], 'num_classes must be that of the data set everywhere'),
    ],
)
def test_training_that_cannot_work_is_refused_by_name(run, tmp_path, monkeypatch, args, options, words):
    monkeypatch.setattr('swin_mm.engine.preflight.get_device', lambda: 'cpu')
    with pytest.raises(PreflightError, match=words):
        run('train', *args, options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('named', [True, False], ids=['path', 'auto'])
def test_resume_continues(run, tiny, tmp_path, named):
    if not named:
        shutil.copy(tiny.checkpoint, tmp_path)
        (tmp_path / 'last_checkpoint').write_text(str(tiny.checkpoint))
    arguments = ['--resume', str(tiny.checkpoint)] if named else ['--resume']
    run('train', *arguments, options=['train_cfg.max_iters=3', 'train_cfg.val_interval=10'])
    (log,) = tmp_path.glob('*/*.log')
    assert 'Iter(train) [3/3]' in log.read_text()
    assert 'Iter(train) [2/3]' not in log.read_text()
    loaded = torch.load(tmp_path / 'iter_3.pth', weights_only=True)
    assert {int(state['step']) for state in loaded['optimizer']['state'].values()} == {3}


def test_auto_scale_lr_scales(run, tmp_path):
    run('train', '--auto-scale-lr', options=['train_cfg.max_iters=1', 'train_cfg.val_interval=10'])
    loaded = torch.load(tmp_path / 'iter_1.pth', weights_only=True)
    assert {group['initial_lr'] for group in loaded['optimizer']['param_groups']} == {6e-5 * 2 / 16}


@pytest.mark.parametrize('recipe', sorted(ROOT.glob('configs/upernet_*.py')), ids=lambda path: path.stem)
def test_a_recipe_has_one_number_of_classes_and_a_batch_size_to_scale_from(recipe):
    cfg = Config.fromfile(recipe)
    check_label_classes(cfg)
    train_command._scale_lr(cfg)
