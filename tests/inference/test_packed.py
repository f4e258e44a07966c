"""A packed model predicts what its checkpoint predicts, wherever it lies, and nothing in it runs."""

import ast
import copy
import functools
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from samples import http_server, tiny_segmentation
from samples.narrow_recipes import smallest_detector
from samples.payloads import Payload, program, works

import swin_mm
from swin_mm.commands import pack, predict, train
from swin_mm.errors import PreflightError
from swin_mm.inference import Detector, Segmentor
from swin_mm.inference.packed import read_packed, write_packed
from swin_mm.inference.plain_config import check_settings, from_json, parse, to_json, without_initial_weights
from swin_mm.recipes import datasets_in, find_config, known_recipes


@pytest.fixture(scope='module')
def segmentation(tmp_path_factory):
    return tiny_segmentation.trained(tmp_path_factory.getbasetemp())


@pytest.fixture(scope='module')
def packed(tiny, segmentation, tmp_path_factory):
    """Packed models of both tasks, by default scope."""
    folders = {}
    for scope, run in (('mmdet', tiny), ('mmseg', segmentation)):
        folders[scope] = tmp_path_factory.mktemp('packed') / 'cats'
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(run.config.parent)
            pack.main([str(run.work_dir), '-o', str(folders[scope])])
    return folders


@pytest.fixture
def altered(packed, tmp_path):
    """Writes a copy of a packed model after a change to its config."""

    def write(change, scope='mmdet'):
        folder = shutil.copytree(packed[scope], tmp_path / 'altered')
        content = json.loads((folder / 'swin_mm.json').read_text())
        change(content)
        (folder / 'swin_mm.json').write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / 'trace'
    yield path
    assert not path.exists()


def equal(one, other):
    assert type(one) is type(other)
    for name in ('boxes', 'scores', 'labels', 'masks', 'names', 'shares'):
        np.testing.assert_array_equal(getattr(one, name, None), getattr(other, name, None), err_msg=name)


def test_a_packed_detector_predicts_what_its_checkpoint_predicts(packed, tiny):
    paths = sorted(tiny.data.glob('images/*.jpg'))
    ours, expected = swin_mm.Detector(packed['mmdet']), Detector(tiny.config, tiny.checkpoint)
    assert ours.classes == expected.classes == ['box', 'disc']
    for one, other in zip(ours(paths), expected(paths), strict=True):
        assert len(one.scores) == 5
        equal(one, other)
    assert ours.dataset_meta['palette'] == expected.dataset_meta['palette']


def test_a_packed_segmentor_predicts_what_its_checkpoint_predicts(packed, segmentation):
    paths = sorted(segmentation.data.glob('images/*.jpg'))
    ours, expected = swin_mm.Segmentor(packed['mmseg']), Segmentor(segmentation.config, segmentation.checkpoint)
    assert ours.classes == expected.classes
    for one, other in zip(ours(paths), expected(paths), strict=True):
        equal(one, other)
    with pytest.raises(ValueError, match='use a Segmentor'):
        Detector(packed['mmseg'])


def test_predict_takes_the_folder(packed, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image = str(tiny.data / 'images/1.jpg')
    written = []
    for words in ([str(packed['mmdet'])], [str(tiny.config), str(tiny.checkpoint)]):
        assert predict.main([image, *words]) == 0
        written.append((tmp_path / 'outputs/preds/1.json').read_text())
    assert written[0] == written[1]


def test_a_repository_of_the_hub_with_the_same_files_is_the_same(packed, tiny, server, monkeypatch):
    monkeypatch.setenv('HF_ENDPOINT', server.url)
    http_server.publish(server, {path.name: path.read_bytes() for path in packed['mmdet'].iterdir()}, 'me/cats')
    image = tiny.data / 'images/0.jpg'
    equal(Detector('hf://me/cats')(image)[0], Detector(packed['mmdet'])(image)[0])
    http_server.publish(server, {'model.safetensors': b'x'}, 'me/bare')
    with pytest.raises(OSError, match=r'hf://me/bare: the repository has no swin_mm\.json, so it is no packed model: '):
        Detector('hf://me/bare')


@pytest.mark.parametrize(
    ('name', 'words'), [('hf://me', 'must be hf://OWNER/NAME'), ('hf://me/cats/a.pth', 'is a file: a packed model is')]
)
def test_an_address_that_is_no_repository_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        Detector(name)


def test_what_is_packed_is_small_plain_and_of_no_machine(packed, tiny, segmentation):
    for scope, run in (('mmdet', tiny), ('mmseg', segmentation)):
        names = sorted(path.name for path in packed[scope].iterdir())
        assert names == ['README.md', 'model.safetensors', 'swin_mm.json']
        for path in packed[scope].iterdir():
            content = path.read_bytes()
            assert not [word for word in (str(run.config.parent), 'data/', 'work_dirs') if word.encode() in content]
        assert (packed[scope] / 'model.safetensors').stat().st_size < run.checkpoint.stat().st_size / 2


def test_the_card_has_the_numbers_of_the_log_and_the_counts(packed, segmentation):
    card = (packed['mmseg'] / 'README.md').read_text()
    (log,) = segmentation.work_dir.glob('*/vis_data/scalars.json')
    (last,) = [line for line in map(json.loads, log.read_text().splitlines()) if 'mIoU' in line]
    assert f'| mIoU | {last["mIoU"]:g} |' in card
    assert 'Measured by the training itself, on its own validation images (4).' in card
    assert 'Training images: 4. Validation images: 4.' in card
    assert "found = swin_mm.Segmentor('cats')('street.jpg')[0]" in card
    assert '\nlicense:  # yours' in card


def test_numbers_and_counts_that_are_not_there_are_said(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no data are
    shutil.copy(tiny.checkpoint, 'alone.pth')
    pack.main(['alone.pth', '-o', 'cats'])
    card = (tmp_path / 'cats/README.md').read_text()
    assert 'The log has none for this checkpoint.' in card
    assert 'Training images: not counted, they were elsewhere.' in card


def test_the_best_checkpoint_is_packed_or_else_the_newest(tiny, tmp_path):
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        shutil.copy(tiny.checkpoint, tmp_path / name)
    assert pack.choose_checkpoint(tmp_path).name == 'epoch_2.pth'
    (tmp_path / 'best_coco_bbox_mAP_epoch_1.pth').touch()
    assert pack.choose_checkpoint(tmp_path).name == 'best_coco_bbox_mAP_epoch_1.pth'
    (tmp_path / 'best_coco_segm_mAP_epoch_2.pth').touch()
    with pytest.raises(ValueError, match=r'several best checkpoints, name one of them: .*best_coco_bbox.*, .*segm'):
        pack.choose_checkpoint(tmp_path)


def test_averaged_weights_are_packed(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [f'data_root={tiny.data}', 'presets=ema', 'val_cfg=None']
    options += ['val_dataloader=None', 'val_evaluator=None']
    train.main([str(tiny.config), '--work-dir', 'run', '--cfg-options', *options])
    pack.main(['run', '-o', 'cats'])
    saved = torch.load('run/epoch_1.pth', weights_only=True)
    packed = Detector('cats').model.state_dict()
    plain = {key.removeprefix('module.'): value for key, value in saved['ema_state_dict'].items()}
    key = 'backbone.patch_embed.proj.weight'
    assert torch.equal(packed[key], saved['state_dict'][key])
    assert not torch.equal(packed[key], plain[key])


@pytest.mark.parametrize('path', known_recipes(), ids=lambda path: path.stem)
def test_every_recipe_is_plain_data_and_comes_back_from_json(path):
    cfg = Config.fromfile(path)
    for part in (cfg.to_dict()['model'], next(datasets_in(cfg.to_dict()['test_dataloader']['dataset']))['pipeline']):
        plain = without_initial_weights(part)
        check_settings(plain, 'x', cfg.default_scope)
        assert from_json(json.loads(json.dumps(to_json(plain)))) == plain
        assert not re.search(r'https?://|\.pth', json.dumps(plain))


HOSTILE = {
    'custom_imports': (dict(custom_imports=dict(imports=['evil'])), ".* too few or too many: .'custom_imports'"),
    '_base_': (dict(_base_='evil.py'), ".* too few or too many: .'_base_'"),
    'scope': (dict(default_scope='evil'), "must have default_scope mmdet or mmseg, got 'evil'"),
    'format': (dict(format=2), 'must have format 1, got 2: update swin-mm'),
    'classes': (dict(classes='evil.txt'), "must have classes as a list of names, got 'evil.txt'"),
    'model': (dict(model='evil'), "must have model as a dict, got 'evil'"),
    'pipeline': (dict(test_pipeline=[]), r'must have test_pipeline as a list, got \[\]'),
    'palette': (dict(palette='evil.txt'), "must have a palette of lists .* got 'evil.txt'"),
}


@pytest.mark.parametrize('case', HOSTILE)
def test_a_config_with_more_than_a_model_is_refused(altered, case):
    change, words = HOSTILE[case]
    with pytest.raises(ValueError, match=rf'swin_mm\.json {words}'):
        read_packed(altered(lambda content: content.update(change)))


IN_THE_MODEL = {
    'a function of Python': (dict(type='os.mkdir', path='TRACE'), 'neck.type must name a part of mmengine, mmdet'),
    'a module in the working directory': (dict(type='evil.Neck'), "neck.type must name a part of .*got 'evil.Neck'"),
    'a bare module': (dict(type='evil'), "neck.type must name a part of .*got 'evil'"),
    'a scope': (dict(type='FPN', _scope_='evil'), "neck._scope_ must name a part of .*got 'evil'"),
    'an importer': (dict(type='mmseg.TIMMBackbone', norm_layer='evil'), 'neck.type must name a part of '),
    'a base': (dict(type='FPN', _base_='evil.py'), 'model.neck._base_: _base_ is for configs that are programs'),
    'a variable': (dict(type='FPN', x='{{_base_.x}}'), 'neck.x must be a word, no path, address or program'),
    'a file': (dict(type='FPN', class_weight='evil.pkl'), 'neck.class_weight must be a word, no path'),
    'an address': (dict(type='FPN', class_weight='https://evil/w'), 'neck.class_weight must be a word, no path'),
    'a list of types': (dict(type=['os.mkdir']), 'model.neck.type must be plain data, got list'),
    'a key': ({'type': 'FPN', '{{ x }}': 1}, "model.neck must have words as keys, got '{{ x }}'"),
}


@pytest.mark.parametrize('case', IN_THE_MODEL)
def test_a_model_names_only_what_is_registered(altered, trace, monkeypatch, tmp_path, case):
    settings, words = IN_THE_MODEL[case]
    settings = {key: str(trace) if value == 'TRACE' else value for key, value in settings.items()}
    for name in ('evil.py', 'evil_package/registry.py'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(program(trace))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=words):
        Detector(altered(lambda content: content['model'].update(neck=settings)))
    assert 'evil' not in sys.modules


def fails(call, *args):
    with pytest.raises(Exception):  # noqa: B017, PT011  whatever comes after the harm is done
        call(*args)


def test_what_is_refused_would_run(trace, tmp_path, monkeypatch):
    """In mmengine and mmcv: so these checks have a reason."""
    from mmcv.ops import batched_nms

    init_default_scope('mmdet')
    works(trace, lambda: MODELS.build(dict(type='os.mkdir', path=str(trace))))
    works(trace, lambda: TRANSFORMS.build(dict(type='os.mkdir', path=str(trace))))
    boxes = torch.tensor([[0.0, 0, 1, 1]])
    kind = f"__import__('os').mkdir({str(trace)!r})"
    works(trace, lambda: fails(batched_nms, boxes, boxes[:, 0], boxes[:, 0], dict(type=kind)))
    (tmp_path / 'evil_scope').mkdir()
    (tmp_path / 'evil_scope/registry.py').write_text(program(trace))
    monkeypatch.syspath_prepend(tmp_path)
    works(trace, lambda: fails(MODELS.build, dict(type='evil_scope.Neck')))


def test_an_evaluated_type_and_a_transform_are_refused(altered, trace):
    kind = f"__import__('os').mkdir({str(trace)!r})"

    def nms(content):
        content['model']['test_cfg']['rcnn']['nms'] = dict(type=kind)
        content['test_pipeline'][1] = dict(type='os.mkdir', path=str(trace))

    folder = altered(nms)
    with pytest.raises(ValueError, match=r'model\.test_cfg\.rcnn\.nms\.type must name a part of mmengine'):
        Detector(folder)
    content = json.loads((folder / 'swin_mm.json').read_text())
    content['model']['test_cfg']['rcnn']['nms'] = dict(type='nms', iou_threshold=0.5)
    (folder / 'swin_mm.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'test_pipeline\.1\.\w+ must '):
        Detector(folder)


def test_a_pickle_in_the_place_of_the_weights_does_not_run(packed, trace, tmp_path):
    folder = shutil.copytree(packed['mmdet'], tmp_path / 'altered')
    torch.save(dict(state_dict={}, meta=Payload(trace)), folder / 'model.safetensors')
    with pytest.raises(ValueError, match='holds Python objects'):
        Detector(folder)
    (folder / 'model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match=r'model\.safetensors: no such file, and swin_mm\.json beside it'):
        Detector(folder)


def test_a_program_in_a_folder_is_not_looked_at(packed, trace, tmp_path):
    folder = shutil.copytree(packed['mmdet'], tmp_path / 'altered')
    for name in ('config.py', 'swin_mm.py', 'model.py', '__init__.py'):
        (folder / name).write_text(program(trace))
    assert Detector(folder).classes == ['box', 'disc']


def hostile_checkpoint(tiny, path, text):
    loaded = torch.load(tiny.checkpoint, weights_only=True)
    loaded['meta']['cfg'] = text(loaded['meta']['cfg']) if callable(text) else text
    torch.save(loaded, path)
    return str(path)


def test_packing_runs_no_config_of_a_checkpoint(tiny, tmp_path, trace):
    works(trace, lambda: Config.fromstring(program(trace), '.py'))
    registered = functools.partial(re.sub, r"type='FPN'", f"type='os.mkdir', path={str(trace)!r}")
    for text, words in (
        (program(trace), 'is a program, not plain data, in line 1'),
        (registered, 'model.neck'),
        ('', 'must have default_scope mmdet or mmseg, got None'),
    ):
        with pytest.raises(PreflightError, match=f'the config in it cannot be packed, .*{words}'):
            pack.main([hostile_checkpoint(tiny, tmp_path / 'a.pth', text), '-o', str(tmp_path / 'out')])
        assert not (tmp_path / 'out').exists()


def test_a_dumped_config_is_read_as_python_reads_it():
    cfg = Config.fromfile(find_config('mask_rcnn_swin_t'))
    assert parse(cfg.pretty_text) == cfg.to_dict()
    text = "a = dict(b=[1, -2.5, (3, None)], c={'x.y': dict(z=True)})\nd = 'e'\nf = inf\n"
    expected = dict(a=dict(b=[1, -2.5, (3, None)], c={'x.y': dict(z=True)}), d='e', f=float('inf'))
    assert parse(text) == expected
    names = {}
    exec(text, dict(inf=float('inf')), names)
    assert parse(text) == names
    for wrong in (
        'import os',
        'a = open("x")',
        'a = b',
        'a, b = 1, 2',
        'a = dict(**b)',
        'a = f"{x}"',
        'a = [x for x in y]',
    ):
        ast.parse(wrong)
        with pytest.raises(ValueError, match='is a program, not plain data, in line 1'):
            parse(wrong)
    with pytest.raises(ValueError, match='is no config as mmengine writes it'):
        parse('a = ')


def test_a_folder_with_something_in_it_is_refused(tiny, tmp_path):
    (tmp_path / 'cats').mkdir()
    (tmp_path / 'cats/notes.txt').touch()
    with pytest.raises(PreflightError, match='-o must be a new folder, or an empty one, got '):
        pack.main([str(tiny.work_dir), '-o', str(tmp_path / 'cats')])
    with pytest.raises(PreflightError, match='has no checkpoint to pack'):
        pack.main([str(tmp_path / 'cats'), '-o', str(tmp_path / 'out')])


@pytest.mark.parametrize(
    'name',
    ['dino_swin_t', 'sparse_rcnn_swin_t_3x', 'reppointsv2_swin_t', 'rtmdet_swin_t', 'mask2former_swin_t_panoptic'],
)
def test_models_of_other_kinds_come_back(name, tmp_path):
    cfg = Config.fromfile(find_config(name))
    cfg.model = smallest_detector(cfg.model)
    init_default_scope('mmdet')
    classes = [str(number) for number in range(2 + cfg.model.get('panoptic_head', {}).get('num_stuff_classes', 0))]
    model = MODELS.build(copy.deepcopy(cfg.model))
    torch.save({'state_dict': model.state_dict(), 'meta': dict(dataset_meta=dict(classes=classes))}, tmp_path / 'a.pth')
    given = Detector(cfg, tmp_path / 'a.pth', device='cpu')
    write_packed(tmp_path / 'packed', cfg, given.model, given.dataset_meta)
    image = np.random.default_rng(0).integers(256, size=(96, 128, 3), dtype=np.uint8)
    equal(Detector(tmp_path / 'packed', device='cpu')(image)[0], given(image)[0])
