"""``swin-mm predict`` on a folder of odd pictures: a result or a reason for each, and the others are done."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image, ImageOps
from samples import odd_images
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, picture, save_checkpoint

from swin_mm.commands import predict as predict_command
from swin_mm.inference import Detector, Segmentor
from swin_mm.inference.sources import UniqueNames
from swin_mm.recipes import short_name


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['swin-mm predict'])
    return predict_command


@pytest.fixture(scope='module', params=['detection', 'segmentation'])
def words(request, tiny, tmp_path_factory):
    """Config and checkpoint of a task."""
    if request.param == 'detection':
        return [str(tiny.config), str(tiny.checkpoint)]
    path = tmp_path_factory.mktemp('segmentor') / 'pico.pth'
    save_checkpoint(path, Config.fromfile(CONFIG), dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    return [str(CONFIG), str(path)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def three(here):
    """The names of three pictures in `in`."""
    Path('in').mkdir()
    for i in range(3):
        Image.fromarray(picture(40 + 8 * i, 64, seed=i)).save(f'in/{i}.png')
    return [f'in/{i}.png' for i in range(3)]


def complaints(capsys) -> list[str]:
    """What was said, without the libraries' own messages."""
    said = capsys.readouterr().err.splitlines()
    return [line.removeprefix('swin-mm predict: ') for line in said if line.startswith('swin-mm predict: ')]


def sizes_of_preds(stem: str) -> tuple[int, int]:
    """(height, width) of the masks or the index map."""
    if Path(f'outputs/preds/{stem}.png').exists():
        return Image.open(f'outputs/preds/{stem}.png').size[::-1]
    return tuple(json.loads(Path(f'outputs/preds/{stem}.json').read_text())['masks'][0]['size'])


def test_a_folder_of_odd_pictures_gives_a_result_or_a_reason_for_each(demo, words, here, capsys):
    good, refused = odd_images.write(Path('in'))
    if words[0] != str(CONFIG):  # which resizes to 128x96: no row would be left of some
        for name in ('10000x8', '8x3000'):
            good.remove(Path(f'in/sizes/{name}.png'))
            refused[Path(f'in/sizes/{name}.png')] = f'the test pipeline fails with {name} pixels: '
    refused.pop(Path('in/folder.jpg'))  # it is entered, whatever its name, and holds nothing
    assert len(good) + len(refused) >= 60
    folders = ['in', 'in/sizes']
    assert demo.main([*folders, *words, '--batch-size', '4', '--no-save-vis']) == 1
    lines = complaints(capsys)
    assert lines[0] == f'{len(refused)} of {len(good) + len(refused)} pictures have no result:'
    assert len(lines) == 1 + len(refused)
    for path, reason in refused.items():
        (line,) = (line for line in lines if line.startswith(f'{path}: '))
        assert re.search(reason, line)

    order = sorted(Path('in').glob('*.*')) + sorted(Path('in/sizes').iterdir())
    wanted = [str(path.relative_to('in').with_suffix('')) for path in order]
    names = dict(zip(order, map(UniqueNames().unique, wanted), strict=True))
    for path in good:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
        name = names[path]
        content = json.loads(Path(f'outputs/preds/{name}.json').read_text())
        if 'bboxes' not in content or content['bboxes']:
            assert sizes_of_preds(name) == upright.size[::-1], name
    assert len(list(Path('outputs/preds').rglob('*.json'))) == len(good)


def test_the_shared_odd_images_have_results_or_reasons(demo, words, here, capsys, shared):
    paths = sorted((shared / 'data/odd_images').iterdir())
    assert demo.main([*map(str, paths), *words, '--no-save-vis']) == 1
    header, line = complaints(capsys)
    assert header == f'1 of {len(paths)} pictures have no result:'
    assert 'uint16-5channel.tif: not an image that OpenCV can decode' in line
    written = {path.stem for path in Path('outputs/preds').glob('*.json')}
    assert written == {path.stem for path in paths} - {'uint16-5channel'}


def test_pictures_of_odd_kinds_and_names_are_drawn(demo, words, here, capsys):
    good = odd_images.good(picture(odd_images.HEIGHT, odd_images.WIDTH))
    Path('in').mkdir()
    names = ['rgb16.png', 'exif6.jpg', 'two\nlines.png', 'Zürich_図.png', '-dash.png', '%s {0}.png']
    for name in names:
        Path('in', name).write_bytes(good[name])
    assert demo.main(['in', *words, '--no-save-pred']) == 0
    drawn = {path.name: Image.open(path).size for path in Path('outputs/vis').iterdir()}
    assert drawn == {f'{Path(name).stem}.jpg': (48, 64) if 'exif' in name else (64, 48) for name in names}
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(names)
    assert 'outputs/vis/two\\nlines.jpg' in printed


@pytest.mark.parametrize('error', [torch.OutOfMemoryError('CUDA out of memory'), RuntimeError('sizes differ')])
@pytest.mark.parametrize('batch_size', ['1', '3'])
def test_one_picture_that_the_model_fails_on_stops_no_other(demo, words, three, monkeypatch, capsys, error, batch_size):
    task = Segmentor if 'upernet' in words[0] else Detector
    samples = task._samples

    def fail_on_the_second(self, packed):
        if any(one['data_samples'].ori_shape[0] == 48 for one in packed):
            raise error
        return samples(self, packed)

    monkeypatch.setattr(task, '_samples', fail_on_the_second)
    assert demo.main([*three, *words, '--no-save-vis', '--batch-size', batch_size]) == 1
    kind = 'out of memory' if isinstance(error, torch.OutOfMemoryError) else 'the model fails'
    header, line = complaints(capsys)
    assert header == '1 of 3 pictures have no result:'
    assert line.startswith(f'in/1.png: {kind} with 64x48 pixels')
    assert line.endswith(str(error))
    assert sorted(path.name for path in Path('outputs/preds').glob('*.json')) == ['0.json', '2.json']


def test_a_picture_that_cannot_be_written_is_named(demo, words, three, monkeypatch, capsys):
    Path('outputs/preds/1.json').mkdir(parents=True)
    assert demo.main([*three, *words, '--no-save-vis']) == 1
    assert complaints(capsys)[1].startswith('in/1.png: found, but not written: IsADirectoryError: ')
    assert Path('outputs/preds/2.json').is_file()


@pytest.mark.parametrize('moment', ['reading the second', 'loading'])
def test_ctrl_c_ends_with_what_was_said_so_far(demo, words, three, monkeypatch, capsys, moment):
    task = Segmentor if 'upernet' in words[0] else Detector
    read = task.read

    def stop(self, *args):
        if moment == 'loading' or args[0].name == '1.png':
            raise KeyboardInterrupt
        return read(self, *args)

    monkeypatch.setattr(task, '__init__' if moment == 'loading' else 'read', stop)
    assert demo.main(['in/gone.png', *three, *words, '--no-save-vis', '--workers', '0']) == 130
    lines = complaints(capsys)
    assert lines[0] == 'interrupted: the files printed above are whole, and --resume goes on behind them'
    assert lines[1:] == (
        [] if moment == 'loading' else ['1 of 3 pictures have no result:', 'in/gone.png: no such file']
    )
    assert Path('outputs/preds/0.json').exists() == (moment != 'loading')


def test_larger_pictures_than_the_flag_allows_are_not_decoded(demo, words, three, capsys):
    assert demo.main([*three, *words, '--no-save-vis', '--max-pixels', str(48 * 64)]) == 1
    header, line = complaints(capsys)
    assert header == '1 of 3 pictures have no result:'
    assert 'in/2.png: must have at most 3072 pixels, got 64x56, which is 3584' in line


@pytest.mark.parametrize('value', ['0', '-5', '178956971', 'many'])
def test_a_cap_that_cannot_be_kept_is_refused(demo, capsys, value):
    with pytest.raises(SystemExit) as caught:
        demo.main(['a.jpg', 'a.py', 'w.pth', f'--max-pixels={value}'])
    assert caught.value.code == 2
    assert 'max' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('fault', ['unwritable', 'no checkpoint', 'a folder as checkpoint'])
def test_what_is_missing_is_said_before_a_model_is_built(demo, words, three, monkeypatch, capsys, fault):
    monkeypatch.setattr('swin_mm.inference.loading._build', lambda *_: pytest.fail('built'))
    if fault == 'unwritable':
        monkeypatch.setattr('swin_mm.inference.loading.load_checkpoint', lambda *_: pytest.fail('loaded'))
        args, said = [*words, '--out-dir', '/proc/self/task'], '--out-dir must be a folder that can be written to, got '
    elif fault == 'no checkpoint':
        args, said = [words[0], 'gone.pth'], 'checkpoint gone.pth: no such file (looked in '
    else:
        args, said = [words[0], 'in'], 'checkpoint in: a folder, not a file: '
    assert demo.main([*three, *args]) == 1
    (line,) = complaints(capsys)
    assert line.startswith(said)
    if fault == 'no checkpoint':
        assert line.endswith(f'name another file or a URL, or train one with swin-mm train {short_name(words[0])}')


def test_a_disk_that_is_read_only_is_said_before_a_model_is_built(demo, words, three, monkeypatch, capsys):
    def refuse(dir):
        raise OSError(30, 'Read-only file system', str(dir))

    monkeypatch.setattr('tempfile.TemporaryFile', refuse)
    monkeypatch.setattr('swin_mm.inference.loading.load_checkpoint', lambda *_: pytest.fail('loaded'))
    assert demo.main([*three, *words]) == 1
    (line,) = complaints(capsys)
    assert line == '--out-dir must be a folder that can be written to, got outputs/vis: Read-only file system'


def test_many_equal_names_are_numbered_at_once():
    names = list(map(UniqueNames().name, [f'{i}/x.jpg' for i in range(20000)]))
    assert len(set(names)) == 20000
    assert names[:3] == ['x', 'x_2', 'x_3']
    assert list(map(UniqueNames().name, ('a/x', 'b/x', 'x_2', 'c/x'))) == ['x', 'x_2', 'x_2_2', 'x_3']


def test_a_stream_gives_pixels_and_results_or_exceptions_in_order(words, three):
    task = Segmentor if 'upernet' in words[0] else Detector
    model = task(*words, device='cpu')
    array = picture(40, 64, seed=0)[..., ::-1]
    images = ['in/0.png', None, array.astype(float), 'in/gone.png', array]
    found = list(model.stream(images, batch_size=2))
    kinds = [type(one) for one in found]
    assert kinds == [tuple, TypeError, ValueError, FileNotFoundError, tuple]
    assert str(found[1]) == 'images[1] must be an array, a NamedImage, an EncodedImage or a path, got NoneType'
    assert str(found[2]).startswith('images[2] must be a uint8 array')
    np.testing.assert_array_equal(found[0][0], array)
    (alone,) = model(array)
    for _, result in (found[0], found[4]):
        for field in ('labels', 'boxes', 'masks'):
            np.testing.assert_array_equal(getattr(result, field, None), getattr(alone, field, None))
    with pytest.raises(TypeError, match=r'images\[1\]'):
        model(images)
    assert model(iter([])) == []


@pytest.mark.parametrize('images', [None, 5])
def test_what_is_no_list_of_images_is_refused(words, images):
    task = Segmentor if 'upernet' in words[0] else Detector
    with pytest.raises(
        TypeError, match=f'images must be a path, an array or a list of these, got {type(images).__name__}'
    ):
        task.stream(None, images)
