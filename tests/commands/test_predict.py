"""demo/swin-mm predict: both forms of its command line, what it writes, and what it says about bad input."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from samples.tiny_training import ROOT, SIZES

from swin_mm.commands import predict as predict_command
from swin_mm.commands.progress import Progress
from swin_mm.inference import Detector
from swin_mm.inference.sources import find_images

# mmdet 3.3.0, demo/image_demo.py; the wheel does not hold it.
FLAGS = ['--weights', '--out-dir', '--device', '--pred-score-thr', '--batch-size', '--show', '--no-save-vis']
FLAGS += ['--no-save-pred', '--print-result', '--palette']
PROMPT_FLAGS = ['--texts', '-c', '--custom-entities', '-s', '--chunked-size', '-p', '--tokens-positive']


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['swin-mm predict'])
    return predict_command


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_of_mmdet_are_known(demo, capsys):
    with pytest.raises(SystemExit) as caught:
        demo.main(['--help'])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert not [flag for flag in FLAGS if flag not in text]
    assert 'coco,voc,citys,random,none' in text


@pytest.mark.parametrize('flag', PROMPT_FLAGS)
def test_flags_of_prompted_models_are_refused_by_name(demo, capsys, flag):
    with pytest.raises(SystemExit) as caught:
        demo.main(['a.jpg', 'config.py', '--weights', 'w.pth', flag, 'cat'])
    assert caught.value.code == 2
    assert f'{flag}' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    'form',
    [
        ['IMAGE', 'CONFIG', '--weights', 'WEIGHTS'],
        ['IMAGE', 'CONFIG', 'WEIGHTS'],
        ['--out-dir', 'outputs', 'IMAGE', '--device', 'cpu', 'CONFIG', 'WEIGHTS'],
    ],
    ids=['newer', 'older', 'mixed'],
)
def test_writes_picture_and_predictions(demo, tiny, here, capsys, form):
    image = tiny.data / 'images/1.jpg'
    words = dict(IMAGE=str(image), CONFIG=str(tiny.config), WEIGHTS=str(tiny.checkpoint))
    assert demo.main([words.get(word, word) for word in form]) == 0
    assert capsys.readouterr().out.split() == ['outputs/vis/1.jpg', 'outputs/preds/1.json']

    with Image.open('outputs/vis/1.jpg') as drawn:
        assert drawn.size == SIZES[1][::-1]
    written = json.loads((here / 'outputs/preds/1.json').read_text())
    (found,) = Detector(tiny.config, tiny.checkpoint)(image)
    assert written['label_names'] == found.names
    assert written['labels'] == found.labels.tolist()
    np.testing.assert_allclose(written['scores'], found.scores)
    np.testing.assert_allclose(written['bboxes'], found.boxes)
    assert len(written['masks']) == len(found.masks) == 5
    for code, mask in zip(written['masks'], found.masks, strict=True):
        assert isinstance(code['counts'], str)
        np.testing.assert_array_equal(coco.decode(code).astype(bool), mask)


def test_picture_shows_what_scores_above_the_threshold(demo, tiny, here):
    image = tiny.data / 'images/0.jpg'
    (found,) = Detector(tiny.config, tiny.checkpoint)(image)
    changed = {}
    for threshold in (0.0, float(found.scores.max()) + 0.01):
        demo.main([str(image), str(tiny.config), str(tiny.checkpoint), '--pred-score-thr', str(threshold)])
        drawn = np.asarray(Image.open('outputs/vis/0.jpg'), int)
        changed[threshold] = np.abs(drawn - np.asarray(Image.open(image), int)).max()
    with_boxes, without = changed.values()
    assert with_boxes > 100
    assert without < 100  # JPEG twice, on noise
    assert len(json.loads((here / 'outputs/preds/0.json').read_text())['scores']) == 5


@pytest.mark.parametrize('what', ['folder', 'pattern', 'files'])
def test_takes_folders_patterns_and_several_files(demo, tiny, here, capsys, what):
    shutil.copytree(tiny.data / 'images', here / 'in')
    (here / 'in/notes.txt').touch()
    inputs = dict(folder=['in'], pattern=['in/*.jpg'], files=[f'in/{i}.jpg' for i in range(4)])
    assert demo.main([*inputs[what], str(tiny.config), str(tiny.checkpoint), '--batch-size', '3', '--no-save-vis']) == 0
    assert capsys.readouterr().out.split() == [f'outputs/preds/{i}.json' for i in range(4)]
    assert not (here / 'outputs/vis').exists()


def test_takes_lists_and_standard_input_and_mirrors_folders(demo, tiny, here, monkeypatch, capsys):
    shutil.copytree(tiny.data / 'images', here / 'in/a/b')
    (here / 'in/list.txt').write_text('a/b/1.jpg\na/gone.jpg\n')
    monkeypatch.setattr(sys, 'stdin', io.StringIO('in/a/b/2.jpg\nin\n'))
    assert demo.main(['-', 'in/list.txt', str(tiny.config), str(tiny.checkpoint)]) == 1
    output = capsys.readouterr()
    names = ['2', 'a/b/0', 'a/b/1', 'a/b/3']
    assert output.out.split() == [
        f'outputs/{file}' for name in names for file in (f'vis/{name}.jpg', f'preds/{name}.json')
    ]
    assert output.err.splitlines()[-2:] == [
        'swin-mm predict: 1 of 5 pictures have no result:',
        'swin-mm predict: in/a/gone.jpg: no such file',
    ]


def test_equal_names_do_not_overwrite_each_other(demo, tiny, here):
    for i, name in enumerate(('a/x.jpg', 'b/x.jpg', 'b/x_2.jpg')):
        (here / name).parent.mkdir(exist_ok=True)
        shutil.copy(tiny.data / f'images/{i}.jpg', here / name)
    demo.main(['a', 'b', str(tiny.config), str(tiny.checkpoint), '--no-save-pred'])
    sizes = {path.name: Image.open(path).size[::-1] for path in (here / 'outputs/vis').iterdir()}
    assert sorted(sizes.values()) == sorted(SIZES[:3])
    assert not (here / 'outputs/preds').exists()


def test_a_file_under_several_paths_counts_once(demo, tiny, here):
    (here / 'in').mkdir()
    shutil.copy(tiny.data / 'images/0.jpg', here / 'in/x.jpg')
    (here / 'link.jpg').symlink_to('in/x.jpg')
    inputs = ['in/x.jpg', './in/x.jpg', 'in/../in/x.jpg', str(here / 'in/x.jpg'), 'in', 'in/*', 'link.jpg']
    assert find_images(inputs) == [Path('in/x.jpg')]
    assert demo.main([*inputs, str(tiny.config), str(tiny.checkpoint), '--no-save-vis']) == 0
    assert [path.name for path in (here / 'outputs/preds').iterdir()] == ['x.json']


def test_two_processes_take_each_image_once(tiny, here):
    for folder in ('a', 'b'):
        shutil.copytree(tiny.data / 'images', here / folder)
    command = [sys.executable, '-m', 'swin_mm', 'predict', 'a', 'b', str(tiny.config), str(tiny.checkpoint)]
    flags = ['--no-save-vis', '--device', 'cpu', '--shard']
    environment = os.environ | {'PYTHONPATH': f'{ROOT}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'}
    running = [
        subprocess.Popen([*command, *flags, f'{k}/2'], stdout=subprocess.PIPE, text=True, env=environment)
        for k in (1, 2)
    ]
    printed = [process.communicate(timeout=300)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert [len(names) for names in printed] == [4, 4]
    assert sorted(printed[0] + printed[1]) == sorted(
        f'outputs/preds/{i}{number}.json' for i in range(4) for number in ('', '_2')
    )


@pytest.mark.parametrize('value', ['0/2', '3/2', '2', 'a/b'])
def test_a_part_that_is_none_is_refused(demo, capsys, value):
    with pytest.raises(SystemExit) as caught:
        demo.main(['a.jpg', 'a.py', 'w.pth', '--shard', value])
    assert caught.value.code == 2
    assert f'shard must be K/N with 1 <= K <= N, got {value}' in capsys.readouterr().err


def test_prints_what_it_would_write(demo, tiny, here, capsys):
    args = [str(tiny.data / 'images/0.jpg'), str(tiny.config), str(tiny.checkpoint)]
    assert demo.main([*args, '--print-result', '--no-save-vis']) == 0
    printed = capsys.readouterr().out.splitlines()[0]
    assert printed == (here / 'outputs/preds/0.json').read_text()


def test_bad_file_is_named_and_the_others_are_done(demo, tiny, here, capsys):
    (here / 'in').mkdir()
    (here / 'in/bad.jpg').write_bytes(b'no image')
    shutil.copy(tiny.data / 'images/0.jpg', here / 'in/good.jpg')
    args = ['in', 'in/gone.jpg', str(tiny.config), str(tiny.checkpoint), '--batch-size', '2', '--no-save-vis']
    assert demo.main(args) == 1
    output = capsys.readouterr()
    assert output.out.split() == ['outputs/preds/good.json']
    complaints = [line for line in output.err.splitlines() if line.startswith('swin-mm predict: ')]
    assert complaints[0] == 'swin-mm predict: 2 of 3 pictures have no result:'
    assert [line.split(': ')[1] for line in complaints[1:]] == ['in/bad.jpg', 'in/gone.jpg']
    assert output.err.splitlines()[-3:] == complaints  # at the end


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['gone/*.jpg', 'CONFIG', 'WEIGHTS'], 'gone/*.jpg: no images found'),
        (['empty', 'CONFIG', 'WEIGHTS'], 'empty: no images found'),
        (['IMAGE', 'gone.py', 'WEIGHTS'], 'config gone.py was found neither'),
        (['IMAGE', 'CONFIG', 'gone.pth'], 'gone.pth'),
        (['IMAGE', 'CONFIG', 'IMAGE'], 'is not a checkpoint'),
        (['IMAGE', 'CONFIG', 'WEIGHTS', '--out-dir', 'file/sub'], 'file'),
    ],
)
def test_what_cannot_work_is_one_line_and_status_1(demo, tiny, here, capsys, args, words):
    (here / 'empty').mkdir()
    (here / 'file').touch()
    paths = dict(IMAGE=str(tiny.data / 'images/0.jpg'), CONFIG=str(tiny.config), WEIGHTS=str(tiny.checkpoint))
    assert demo.main([paths.get(word, word) for word in args]) == 1
    output = capsys.readouterr()
    (line,) = (line for line in output.err.splitlines() if line.startswith('swin-mm predict: '))
    assert words in line
    assert not output.out


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (
            ['a.jpg', 'weights.pth'],
            'MODEL must be a config file (.py) or a recipe; a config inside a checkpoint is',
        ),
        (['a.py', 'weights.pth'], 'INPUTS must come before MODEL'),
        (['a.jpg', 'a.py', 'w.pth', '--weights', 'v.pth'], 'at most one CHECKPOINT must be given, got v.pth, w.pth'),
        (['a.jpg', 'a.py', 'w.pth', '--batch-size', '0'], '--batch-size must be at least 1, got 0'),
        (['a.jpg', 'a.py', 'w.pth', '--workers', '-1'], '--workers must be at least 0, got -1'),
        (['a.jpg', 'a.py', 'w.pth', '--save', 'jpg'], "invalid choice: 'jpg'"),
        (['a.jpg', 'a.py', 'w.pth', 'b.jpg'], 'at most one CHECKPOINT must be given, got w.pth, b.jpg'),
    ],
)
def test_senseless_command_line_is_explained(demo, capsys, args, words):
    with pytest.raises(SystemExit) as caught:
        demo.main(args)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'model', 'weights'),
    [
        (['a.jpg', 'mask_rcnn_swin_t'], 'mask_rcnn_swin_t', None),
        (['folder', 'b', 'mask_rcnn_swin_t'], 'mask_rcnn_swin_t', None),
        (['a.jpg', 'gone.py'], 'gone.py', None),
        (['a.jpg', 'mask_rcnn_swin_t', '--weights', 'w.pth'], 'mask_rcnn_swin_t', 'w.pth'),
        (['a.jpg', 'hf://me/cats'], 'hf://me/cats', None),
        (['a.jpg', 'mask_rcnn_swin_t', 'hf://me/cats'], 'mask_rcnn_swin_t', 'hf://me/cats'),
        (['a.jpg', 'hf://me'], 'hf://me', None),  # typos
        (['a.jpg', 'mask_rcn_swin_t'], 'mask_rcn_swin_t', None),
        (['a.jpg', 'mask_rcn_swin_t', 'w.pth'], 'mask_rcn_swin_t', 'w.pth'),
        (['a.jpg', 'mask_rcn_swin_t', '--weights', 'w.pth'], 'mask_rcn_swin_t', 'w.pth'),
    ],
)
def test_the_model_is_told_from_the_words_around_it(demo, words, model, weights):
    args = demo.parse_args(words)
    assert (args.model, args.weights) == (model, weights)
    assert [*args.inputs, model] == words[: words.index(model) + 1]


def test_shows_what_it_would_draw_in_one_window(demo, tiny, here, monkeypatch):
    from mmengine.visualization import Visualizer

    shown = []
    monkeypatch.setattr('matplotlib.pyplot.get_backend', lambda: 'TkAgg')
    monkeypatch.setattr(Visualizer, 'show', lambda self, image, **options: shown.append((self, image, options)))
    images = [tiny.data / f'images/{i}.jpg' for i in (0, 1)]
    words = [str(tiny.config), str(tiny.checkpoint), '--pred-score-thr', '0.1', '--no-save-vis', '--no-save-pred']
    assert demo.main([*map(str, images), *words, '--show']) == 0
    for (_, image, options), found in zip(shown, Detector(tiny.config, tiny.checkpoint)(images), strict=True):
        np.testing.assert_array_equal(image, found.plot(score=0.1))
        assert options == dict(win_name=found.origin.path, wait_time=0)
    assert shown[0][0] is shown[1][0]
    assert not (here / 'outputs').exists()


@pytest.mark.parametrize('workers', ['0', '2'])
def test_workers_change_nothing(demo, tiny, here, capsys, workers):
    shutil.copytree(tiny.data / 'images', here / 'in')
    (here / 'in/1.jpg').write_bytes(b'')
    words = ['in', str(tiny.config), str(tiny.checkpoint), '--workers', workers]
    assert demo.main(words) == 1
    output = capsys.readouterr()
    printed = [f'outputs/{name}' for i in (0, 2, 3) for name in (f'vis/{i}.jpg', f'preds/{i}.json')]
    assert output.out.split() == printed
    assert 'swin-mm predict: in/1.jpg: the file is empty (0 bytes)' in output.err.splitlines()


def test_a_terminal_sees_a_bar_with_the_rate_and_others_do_not(monkeypatch, capsys):
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, 'isatty', lambda terminal=terminal: terminal)
        with Progress(lambda: 5, done=2) as progress:
            progress.say('outputs/vis/1.jpg')
            progress.step()
        output = capsys.readouterr()
        assert output.out == 'outputs/vis/1.jpg\n'
        assert ('3/5' in output.err and 'image/s' in output.err) is terminal
        assert bool(output.err) is terminal


def test_demo_picture_is_matplotlibs_sample():
    from matplotlib.cbook import get_sample_data

    with get_sample_data('grace_hopper.jpg') as sample:
        assert (ROOT / 'demo/demo.jpg').read_bytes() == sample.read()


def test_processes_that_share_a_folder_share_no_growing_file(demo, tiny, here):
    whole, shards = [str(tiny.data / 'images'), str(tiny.config), str(tiny.checkpoint), '--save', 'coco', 'csv'], []
    for part in ('1/2', '2/2'):
        assert demo.main([*whole, '--shard', part]) == 0
        shards += json.loads(Path(f'outputs/coco/images_{part.replace("/", "_of_")}.json').read_text())['images']
    assert demo.main([*whole, '--out-dir', 'whole']) == 0
    images = json.loads(Path('whole/coco/images.json').read_text())['images']
    assert sorted(shards, key=lambda image: image['id']) == images
    names = sorted(path.name for path in Path('outputs').glob('*.*'))
    journals, tables = ([f'{stem}_{part}_of_2' for part in (1, 2)] for stem in ('journal', 'predictions'))
    assert names == [*(f'{name}.jsonl' for name in journals), *(f'{name}.csv' for name in tables)]
