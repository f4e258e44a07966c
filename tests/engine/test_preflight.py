"""A run that cannot work is refused before it starts, with everything that is missing and what to do about it."""

import functools
import json
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner

from swin_mm.checkpoints.downloads import cached
from swin_mm.engine import preflight
from swin_mm.engine.preflight import (
    batch_advice,
    check_inputs,
    check_label_classes,
    check_mixed_precision,
    check_strategy,
)
from swin_mm.errors import PreflightError
from swin_mm.recipes import datasets_in, move_data_root

TEXT = """
data_root = 'data/coco/'
train_dataloader = dict(batch_size=2, dataset=dict(
    type='CocoDataset', data_root=data_root, ann_file='train.json', data_prefix=dict(img='train/')))
val_dataloader = dict(dataset=dict(
    type='CocoDataset', data_root=data_root, ann_file='val.json', data_prefix=dict(img='val/')))
test_dataloader = dict(dataset=dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[
    dict(type='CocoDataset', ann_file=data_root + 'test.json', data_prefix=dict(img=data_root + 'test/'))])))
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'val.json')
test_evaluator = [dict(type='CocoMetric', ann_file=data_root + 'test.json'), dict(type='Other', note='data/coconut')]
train_cfg, val_cfg, test_cfg = dict(max_epochs=1), dict(), dict()
model = dict(backbone=dict(depths=(2, 2)), heads=[dict(pretrained=None)])
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
auto_scale_lr = dict(enable=False, base_batch_size=16)
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads ``TEXT`` as a config, in a working directory where everything that it names is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('SWIN_MM_CACHE', str(tmp_path / 'cache'))
    for name in ('train', 'val', 'test'):
        (tmp_path / 'data/coco' / name).mkdir(parents=True)
        (tmp_path / 'data/coco' / name / '1.jpg').touch()
        (tmp_path / 'data/coco' / f'{name}.json').touch()

    def read(text=TEXT, **options):
        path = tmp_path / 'recipe.py'
        path.write_text(text)
        cfg = Config.fromfile(path)
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        return cfg

    return read


@pytest.mark.parametrize('training', [True, False])
def test_nothing_missing_passes(read, training):
    check_inputs(read(), training)


@pytest.mark.parametrize(
    ('gone', 'training', 'words'),
    [
        ('train.json', True, 'annotation file data/coco/train.json (train_dataloader)'),
        ('val.json', True, 'annotation file data/coco/val.json (val_dataloader)'),
        ('train', True, 'image folder data/coco/train/ (train_dataloader)'),
        ('test.json', False, 'annotation file data/coco/test.json (test_dataloader)'),
        ('test', False, 'image folder data/coco/test/ (test_dataloader)'),
    ],
)
def test_missing_data_is_named_with_the_way_out(read, tmp_path, gone, training, words):
    (tmp_path / 'data/coco' / gone).rename(tmp_path / 'elsewhere')
    with pytest.raises(PreflightError) as caught:
        check_inputs(read(), training)
    message = str(caught.value)
    assert message.count(words) == message.count(f'data/coco/{gone}') == 1  # once, though an evaluator names it too
    for help_ in ('data_root=FOLDER', 'configs/mask_rcnn_swin_pico_shapes.py', str(tmp_path)):
        assert help_ in message
    check_inputs(read(), not training)  # the other kind of run does not need it


def test_everything_missing_is_one_message(read, tmp_path):
    (tmp_path / 'data').rename(tmp_path / 'elsewhere')
    with pytest.raises(PreflightError) as caught:
        check_inputs(read(model__backbone__init_cfg=dict(type='Pretrained', checkpoint='swin.pth')), True)
    for file in ('train.json', 'train/', 'val.json', 'val/', 'swin.pth'):
        assert file in str(caught.value)


def test_evaluator_alone_is_checked(read):
    with pytest.raises(PreflightError, match=r'annotation file other\.json \(val_evaluator\)'):
        check_inputs(read(val_evaluator__ann_file='other.json'), True)


def test_empty_image_folder_is_missing(read, tmp_path):
    (tmp_path / 'data/coco/train/1.jpg').unlink()
    with pytest.raises(PreflightError, match='image folder data/coco/train/, which is empty'):
        check_inputs(read(), True)


def test_without_validation_its_data_is_not_needed(read, tmp_path):
    (tmp_path / 'data/coco/val.json').unlink()
    check_inputs(read(val_cfg=None, val_dataloader=None, val_evaluator=None), True)


def test_data_that_makes_itself_and_remote_data_pass(read, tmp_path):
    (tmp_path / 'data').rename(tmp_path / 'elsewhere')
    check_inputs(read(TEXT.replace("'CocoDataset'", "'swin_mm.ShapesDataset'")), True)
    check_inputs(read(TEXT.replace('data/coco/', 's3://bucket/coco/')), True)
    remote = "ann_file=data_root + 'val.json', backend_args=dict(backend='petrel')"
    text = TEXT.replace("type='CocoDataset'", "type='CocoDataset', backend_args=dict(backend='petrel')")
    check_inputs(read(text.replace("ann_file=data_root + 'val.json'", remote)), True)


@pytest.mark.parametrize('setting', ['model__backbone__init_cfg', 'model__heads__0__init_cfg'])
def test_missing_weights_are_named_with_the_option_that_leaves_them_out(read, setting, tmp_path):
    option = setting.replace('__', '.')
    weights = dict(type='Pretrained', checkpoint='weights/swin.pth')
    with pytest.raises(PreflightError) as caught:
        check_inputs(read(**{setting: weights}), True)
    assert f'weights of {option}: weights/swin.pth' in str(caught.value)
    assert f'--cfg-options {option}=None' in str(caught.value)
    check_inputs(read(**{setting: weights, 'load_from': None}), False)  # a test does not start from them

    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights/swin.pth').touch()
    check_inputs(read(**{setting: weights}), True)


def test_older_spelling_of_weights_is_checked(read):
    with pytest.raises(PreflightError, match=r'model\.heads\.0\.pretrained: a\.pth'):
        check_inputs(read(model__heads__0__pretrained='a.pth'), True)


@pytest.mark.parametrize('training', [True, False])
def test_missing_checkpoint_is_named(read, training):
    with pytest.raises(PreflightError, match=r'checkpoint gone\.pth'):
        check_inputs(read(load_from='gone.pth'), training)


@pytest.mark.parametrize('answer', ['200', '405', '403'])
def test_reachable_url_passes(read, url, answer):
    check_inputs(read(load_from=f'{url}/{answer}/swin.pth'), True)


def test_unreachable_url_passes_from_the_cache_only(read, url, tmp_path):
    for address, reason in ((f'{url}/404/swin.pth', '404'), ('http://127.0.0.1:1/swin.pth', 'not reachable')):
        with pytest.raises(PreflightError) as caught:
            check_inputs(read(load_from=address), True)
        assert reason in str(caught.value)
        assert str(tmp_path / 'cache' / cached(address).name) in str(caught.value)
    (tmp_path / 'cache').mkdir()
    cached('http://127.0.0.1:1/swin.pth').touch()
    check_inputs(read(load_from='http://127.0.0.1:1/swin.pth'), True)


@pytest.mark.parametrize('new', ['elsewhere/', '/data/coco/', 'data/coco/mini/', 'data/'])
def test_moving_the_data_root_equals_writing_it_into_the_file(read, new):
    moved = read()
    move_data_root(moved, new)
    written = read(TEXT.replace("'data/coco/'", repr(new)))
    assert json.dumps(moved._cfg_dict) == json.dumps(written._cfg_dict)


def test_data_root_takes_no_final_slash(read):
    cfg = read()
    move_data_root(cfg, 'new')
    assert cfg.val_evaluator.ann_file == 'new/val.json'
    assert cfg.train_dataloader.dataset.data_root.rstrip('/') == 'new'
    assert cfg.test_evaluator[1].note == 'data/coconut'


@pytest.mark.parametrize('variable', ["data_root = ''\n", ''])
@pytest.mark.parametrize('own', ["data_root='', ", 'data_root=None, ', ''])
def test_paths_without_a_data_root_start_at_the_new_one(read, variable, own):
    text = TEXT.replace("data_root = 'data/coco/'\n", variable).replace('data_root=data_root, ', own)
    text = (
        text.replace('data_root + ', '').replace("'test/'", "'/far/test/'") + 'test_evaluator.append(val_evaluator)\n'
    )
    cfg = read(text)
    move_data_root(cfg, 'data/coco')
    init_default_scope('mmdet')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        (settings,) = datasets_in(loader.dataset)
        dataset = DATASETS.build(dict(settings, lazy_init=True))  # mmengine's own joining of paths
        name = dataset.ann_file[len('data/coco/') : -len('.json')]
        assert dataset.ann_file == f'data/coco/{name}.json'
        assert dataset.data_prefix['img'] == ('/far/test/' if name == 'test' else f'data/coco/{name}/')
    assert cfg.val_evaluator.ann_file == 'data/coco/val.json'
    assert [metric.get('ann_file') for metric in cfg.test_evaluator] == [
        'data/coco/test.json',
        None,
        'data/coco/val.json',
    ]
    assert cfg.test_evaluator[1].note == 'data/coconut'


@pytest.mark.parametrize('old', ['another/place', None, ''])
def test_data_root_without_effect_raises(read, old):
    cfg = read()
    cfg.data_root = old
    with pytest.raises(PreflightError, match='data_root=new has nothing to replace'):
        move_data_root(cfg, 'new')


def test_mixed_precision_needs_a_gpu(read, monkeypatch):
    amp = read(optim_wrapper__type='AmpOptimWrapper')
    for device in ('cpu', 'mps', 'cuda'):
        monkeypatch.setattr(preflight, 'get_device', functools.partial(str, device))
        check_mixed_precision(read())
        if device == 'cuda':
            check_mixed_precision(amp)
        else:
            with pytest.raises(PreflightError, match=f'must run on a GPU, got device={device}'):
                check_mixed_precision(amp)


@pytest.mark.parametrize(('world', 'images'), [(1, 2), (2, 4), (4, 1), (16, 2), (3, 5)])
def test_batch_advice_names_the_rate_that_mmengine_would_set(read, world, images):
    cfg = read(train_dataloader__batch_size=images)
    group = dict(lr=cfg.optim_wrapper.optimizer.lr)
    wrapper = OptimWrapper.__new__(OptimWrapper)
    wrapper.optimizer = SimpleNamespace(param_groups=[group])
    runner = SimpleNamespace(
        _train_dataloader=cfg.train_dataloader,
        world_size=world,
        logger=SimpleNamespace(info=print),
        param_schedulers=None,
    )
    Runner.scale_lr(runner, wrapper, dict(enable=True, base_batch_size=16))
    assert f'optim_wrapper.optimizer.lr={group["lr"]:.3g}, or --auto-scale-lr' in batch_advice(cfg, world)


def test_a_self_made_set_without_a_root_hides_no_missing_annotations(read):
    dataset = dict(type='swin_mm.ShapesDataset', data_root=None)
    cfg = read(val_cfg={}, val_dataloader__dataset=dataset, val_evaluator__ann_file='gone.json')
    with pytest.raises(PreflightError, match=r'annotation file gone\.json \(val_evaluator\)'):
        check_inputs(cfg, training=True)


def test_batch_advice_counts_accumulation(read):
    cfg = read(optim_wrapper__accumulative_counts=4)
    assert batch_advice(cfg, 2) is None  # 2 x 2 x 4 = 16
    advice = batch_advice(cfg, 4)
    assert 'lr=0.0002' in advice
    assert advice.endswith(', or --auto-scale-lr')


@pytest.mark.parametrize(
    'options',
    [
        dict(auto_scale_lr__enable=True),
        dict(auto_scale_lr=None),
        dict(train_dataloader__batch_size=16),
    ],
)
def test_no_advice_without_need(read, options):
    assert batch_advice(read(**options), 1) is None


def test_sharded_checkpoints_are_refused():
    """A run that is interrupted would find nothing to go on from, and start over."""
    text = "strategy = dict(type='FSDPStrategy'%s)"
    with pytest.raises(PreflightError, match=r"state_dict_cfg must be 'full' under FSDPStrategy, got 'local'"):
        check_strategy(Config.fromstring(text % '', '.py'))
    check_strategy(Config.fromstring(text % ", state_dict_cfg='full'", '.py'))
    check_strategy(Config.fromstring("strategy = dict(type='DDPStrategy')", '.py'))


@pytest.mark.parametrize('wrapper', ['{}', 'dict(module={})', 'dict(teacher=None, student=dict(segmentor={}))'])
@pytest.mark.parametrize('head', ['dict(num_classes=4)', '[dict(num_classes=9), dict(num_classes=4)]'])
def test_label_classes_are_those_of_the_head_wherever_it_stands(tmp_path, wrapper, head):
    steps = "train_dataloader = dict(dataset=dict(pipeline=[dict(type='swin_mm.LoadLabels', num_classes={})]))\n"
    model = f'model = {wrapper.format(f"dict(decode_head={head})")}\n'
    (tmp_path / 'right.py').write_text(steps.format(4) + model)
    (tmp_path / 'wrong.py').write_text(steps.format(3) + model)
    check_label_classes(Config.fromfile(tmp_path / 'right.py'))
    with pytest.raises(
        PreflightError, match=r'got 3 in train_dataloader\S* \(LoadLabels\) and 4 in model\S*decode_head'
    ):
        check_label_classes(Config.fromfile(tmp_path / 'wrong.py'))
