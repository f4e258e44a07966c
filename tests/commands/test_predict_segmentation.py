"""``swin-mm predict`` with a segmentation config, and both tasks of demo/quickstart.sh."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, ROOT, picture, save_checkpoint

from swin_mm.commands import predict as predict_command
from swin_mm.inference import Origin, Segmentation, Segmentor
from swin_mm.inference.outputs import Item, Job, open_outputs

SIZES = [(96, 128), (71, 90), (120, 64)]


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['swin-mm predict'])
    return predict_command


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('segmentor') / 'pico.pth'
    return save_checkpoint(path, Config.fromfile(CONFIG), dataset_meta=dict(classes=CLASSES, palette=PALETTE))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with pictures in `in`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in').mkdir()
    for i, size in enumerate(SIZES):
        Image.fromarray(picture(*size, seed=i)).save(tmp_path / f'in/{i}.png')
    return tmp_path


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_writes_overlay_index_map_and_shares_under_the_pictures_names(demo, checkpoint, here, capsys):
    # A name, not a path: as for training, configs are also looked up in the project.
    assert demo.main(['in', 'configs/upernet_swin_pico_shapes.py', str(checkpoint), '--batch-size', '2']) == 0
    written = [f'outputs/{name}' for i in range(3) for name in (f'vis/{i}.jpg', f'preds/{i}.png', f'preds/{i}.json')]
    assert capsys.readouterr().out.split() == written
    assert sorted(str(path.relative_to(here)) for path in here.glob('outputs/*/*')) == sorted(written)

    segmentor = Segmentor(CONFIG, checkpoint)
    for i, size in enumerate(SIZES):
        (found,) = segmentor(here / f'in/{i}.png')
        index = read(f'outputs/preds/{i}.png')
        assert index.dtype == np.uint8
        np.testing.assert_array_equal(index, found.labels)
        content = json.loads((here / f'outputs/preds/{i}.json').read_text())
        assert content['shares'] == found.shares
        assert content['labels'] == {name: CLASSES.index(name) for name in found.shares}
        assert read(f'outputs/vis/{i}.jpg').shape == (*size, 3)


@pytest.mark.parametrize(('flags', 'opacity'), [([], 0.5), (['--opacity', '0.25'], 0.25), (['--opacity', '1'], 1.0)])
def test_overlay_mixes_the_picture_with_the_colours_of_the_classes(demo, checkpoint, here, flags, opacity):
    demo.main(['in/0.png', str(CONFIG), str(checkpoint), *flags])
    colours = np.array(PALETTE)[read('outputs/preds/0.png')]
    expected = (1 - opacity) * read('in/0.png') + opacity * colours
    drawn = read('outputs/vis/0.jpg')
    # A class map has sharp edges between vivid colours, which JPEG blurs.
    assert np.median(np.abs(drawn - expected)) < 4
    assert np.abs(drawn.mean((0, 1)) - expected.mean((0, 1))).max() < 4


def test_class_names_are_written_only_if_asked_for(demo, checkpoint, here):
    Image.fromarray(picture(300, 400)).save('in/0.png')
    drawn = []
    for flags in ([], ['--with-labels']):
        demo.main(['in/0.png', str(CONFIG), str(checkpoint), *flags])
        drawn.append(read('outputs/vis/0.jpg').astype(int))
    changed = np.abs(drawn[0] - drawn[1]).max(axis=2) > 60
    assert 100 < changed.sum() < 0.2 * changed.size


def test_class_names_are_written_into_an_image_of_any_memory_layout(demo, checkpoint, here):
    segmentor = Segmentor(CONFIG, checkpoint)
    image = picture(96, 128)
    (found,) = segmentor(image)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)  # as after a conversion by index
    drawn = [found.plot(pixels, with_labels=True) for pixels in (image, planes)]
    np.testing.assert_array_equal(*drawn)
    assert not np.array_equal(drawn[0], found.plot(image))


def test_prints_what_it_would_write_and_leaves_out_what_is_unwanted(demo, checkpoint, here, capsys):
    args = ['in/1.png', str(CONFIG), str(checkpoint), '--print-result', '--no-save-vis']
    assert demo.main(args) == 0
    printed = capsys.readouterr().out.splitlines()[0]
    assert printed == (here / 'outputs/preds/1.json').read_text()
    shutil.rmtree('outputs')
    assert demo.main([*args, '--no-save-pred']) == 0
    assert capsys.readouterr().out.splitlines() == [printed]
    assert not (here / 'outputs').exists()


@pytest.mark.parametrize(
    ('flags', 'task'),
    [
        (['--pred-score-thr', '0.3'], 'segmentation'),
        (['--palette', 'none'], 'segmentation'),
        (['--opacity', '0.5'], 'detection'),
        (['--with-labels'], 'detection'),
    ],
)
def test_flags_of_the_other_task_are_refused_by_name(demo, here, capsys, flags, task):
    config = CONFIG if task == 'segmentation' else CONFIG.with_name('mask_rcnn_swin_pico_shapes.py')
    only = {'segmentation': 'detection', 'detection': 'segmentation'}[task]
    assert demo.main(['in/0.png', str(config), 'gone.pth', *flags]) == 1
    complaint = f'swin-mm predict: {flags[0]} is for {only} only, but {config} is for {task}'
    assert capsys.readouterr().err.splitlines()[-1] == complaint
    assert not (here / 'outputs').exists()


@pytest.mark.parametrize('name', ['yolo', 'labelme', 'crops'])
def test_formats_of_objects_are_refused_by_name_before_the_model_is_loaded(demo, here, capsys, name):
    assert demo.main(['in/0.png', str(CONFIG), 'gone.pth', '--save', 'vis', name]) == 1
    complaint = f'swin-mm predict: --save {name} is for detection only, but {CONFIG} is for segmentation'
    assert capsys.readouterr().err.splitlines()[-1] == complaint
    assert not (here / 'outputs').exists()


def test_writes_only_the_formats_that_it_is_asked_for(demo, checkpoint, here, capsys):
    assert demo.main(['in/0.png', str(CONFIG), str(checkpoint), '--save', 'masks', 'csv', 'coco']) == 0
    written = ['outputs/masks/0.png', 'outputs/coco/predictions.json', 'outputs/coco/images.json']
    written.append('outputs/predictions.csv')
    assert capsys.readouterr().out.split() == written
    files = {str(path.relative_to(here)) for path in (here / 'outputs').rglob('*') if path.is_file()}
    assert files == {*written, 'outputs/journal.jsonl'}
    np.testing.assert_array_equal(read(written[0]), Segmentor(CONFIG, checkpoint)('in/0.png')[0].labels)
    for record in json.loads((here / written[1]).read_text()):
        mask = coco.decode(record['segmentation']).astype(bool)
        np.testing.assert_array_equal(mask, read(written[0]) == record['category_id'] - 1)


@pytest.mark.parametrize('value', ['0', '-0.5', '1.01', 'nan'])
def test_opacity_out_of_range_is_refused(demo, capsys, value):
    with pytest.raises(SystemExit) as caught:
        demo.main(['a.jpg', 'a.py', 'w.pth', f'--opacity={value}'])
    assert caught.value.code == 2
    assert f'--opacity must be in (0, 1], got {value}' in capsys.readouterr().err


@pytest.mark.parametrize('count', [256, 257])
def test_index_maps_hold_any_number_of_classes(tmp_path, count):
    names = [str(i) for i in range(count)]
    labels = np.array([[0, 1], [count - 1, 0]])
    found = Segmentation(labels, {'0': 0.5, '1': 0.25, str(count - 1): 0.25}, None, Origin(classes=names))
    (output,) = open_outputs(['json'], Job(tmp_path, names))
    png, text = output.write(Item(1, 'a.b', 'a.b.png', picture(2, 2), found))
    assert (png.name, text.name) == ('a.b.png', 'a.b.json')
    np.testing.assert_array_equal(read(png), labels)
    assert json.loads(text.read_text())['labels'][str(count - 1)] == count - 1


# Stands for the environment's Python: says what it is asked to run, and trains at once.
FAKE_PYTHON = """#!/bin/sh
echo "run $*"
[ "$1" != tools/train.py ] || { mkdir -p "$4" && echo last.pth > "$4/last_checkpoint"; }
"""


@pytest.fixture
def quickstart(tmp_path, monkeypatch):
    """Runs a copy of the script in a folder without the rest, and gives its status and what Python was asked for."""
    for name in ('demo/quickstart.sh', 'tools/setup.sh', 'requirements.txt', 'pyproject.toml'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / 'env/bin/python'
    python.parent.mkdir(parents=True)
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    monkeypatch.setenv('VIRTUAL_ENV', str(tmp_path / 'env'))

    def run(*words):
        done = subprocess.run(['bash', tmp_path / 'demo/quickstart.sh', *words], capture_output=True, text=True)
        return done, [line.split()[1:] for line in done.stdout.splitlines() if line.startswith('run ')]

    return run


@pytest.mark.parametrize(
    ('words', 'model'),
    [
        ([], 'mask_rcnn_swin_pico_shapes'),
        (['--task', 'det'], 'mask_rcnn_swin_pico_shapes'),
        (['--task', 'seg'], 'upernet_swin_pico_shapes'),
    ],
    ids=str,
)
def test_quickstart_trains_evaluates_and_draws_the_task(quickstart, words, model):
    done, commands = quickstart(*words)
    assert done.returncode == 0, done.stderr
    config = f'configs/{model}.py'
    train, test, draw = commands[-3:]
    assert train[:4] == ['tools/train.py', config, '--work-dir', f'work_dirs/{model}']
    checkpoint = f'work_dirs/{model}/last.pth'
    assert test[:3] == ['tools/test.py', config, checkpoint]
    assert draw[:4] == ['demo/image_demo.py', 'data/shapes/val', config, checkpoint]
    assert (ROOT / config).is_file()
    assert f'{draw[-1]}/vis' in done.stdout.splitlines()[-1]


@pytest.mark.parametrize('words', [['--task', 'cls'], ['--task'], ['seg'], ['--task', 'seg', 'x']], ids=str)
def test_quickstart_refuses_what_it_does_not_know_and_does_nothing(quickstart, words):
    done, commands = quickstart(*words)
    assert (done.returncode, commands) == (2, [])
    assert done.stderr.splitlines() == [f'usage: bash demo/quickstart.sh [--task det|seg], got: {" ".join(words)}']
