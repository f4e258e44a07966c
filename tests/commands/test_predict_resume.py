"""``swin-mm predict --save ... --resume``: what is written stands there once, whenever the run before was stopped."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from samples.pico_segmentor import picture

from swin_mm.commands import predict as predict_command

HERE = Path(__file__).parent
ALL = ['vis', 'json', 'coco', 'yolo', 'labelme', 'csv', 'masks', 'crops']


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The command, in a folder with five pictures in `in`."""
    monkeypatch.setattr(sys, 'argv', ['swin-mm predict'])
    monkeypatch.chdir(tmp_path)
    Path('in').mkdir()
    for i in range(5):
        Image.fromarray(picture(64, 80 + 8 * i, seed=i)).save(f'in/{i}.png')
    return predict_command


def arguments(tiny, out: str, *flags: str) -> list[str]:
    fixed = ['in', str(tiny.config), str(tiny.checkpoint), '--pred-score-thr', '0', '--device', 'cpu']
    return [*fixed, '--out-dir', out, '--save', *ALL, *flags]


def contents(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob('*') if path.is_file()}


def run(how: str, moments: list[int], *words: str) -> list[int]:
    """The exit statuses of runs that are stopped at ``moments``, of one that ends, and of one into ``whole``."""
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, str(HERE / 'killed_predict.py'), how, ','.join(map(str, moments)), *words],
        env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [int(word) for word in done.stdout.splitlines()[-1].split()[1:]]


# An image with five objects has 13 writes: vis, json, coco and its images, yolo, labelme, csv, five crops, the journal.
# Opening the files has four: the journal, coco and its images, csv, and YOLO's names.
@pytest.mark.parametrize(
    ('how', 'moments', 'workers'),
    [
        ('SIGKILL', [18, 27], '2'),
        pytest.param('SIGKILL', [1, 3, 13, 8, 18, 18, 31], '0', marks=pytest.mark.slow),
        pytest.param('SIGKILL', [1, 3, 13, 8, 18, 18, 31], '2', marks=pytest.mark.slow),
        pytest.param('SIGINT', [7, 20, 14], '0', marks=pytest.mark.slow),
        pytest.param('SIGINT', [7, 20, 14], '2', marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_again_and_again_writes_what_an_undisturbed_one_does(demo, tiny, how, moments, workers):
    statuses = run(how, moments, *arguments(tiny, 'stopped', '--workers', workers))
    assert statuses == [130 if how == 'SIGINT' else -9] * len(moments) + [0, 0]
    whole, stopped = contents('whole'), contents('stopped')
    assert stopped.keys() == whole.keys()
    assert [name for name in whole if stopped[name] != whole[name]] == []
    assert len(json.loads(whole['coco/images.json'])['images']) == 5


def test_a_whole_run_goes_on_with_what_is_new(demo, tiny, capsys):
    assert demo.main(arguments(tiny, 'out', '--resume')) == 0  # nothing to go on from
    before = contents('out')
    capsys.readouterr()
    assert demo.main(arguments(tiny, 'out', '--resume')) == 0
    output = capsys.readouterr()
    assert output.out.split() == ['out/coco/predictions.json', 'out/coco/images.json', 'out/predictions.csv']
    assert 'swin-mm predict: 5 of 5 pictures are written already' in output.err
    assert contents('out') == before
    shutil.copy('in/0.png', 'in/5.png')
    assert demo.main(arguments(tiny, 'out', '--resume')) == 0
    assert 'out/vis/5.jpg' in capsys.readouterr().out
    assert demo.main(arguments(tiny, 'whole')) == 0
    assert contents('out') == contents('whole')


def test_a_picture_without_a_result_is_tried_again(demo, tiny):
    shutil.copy('in/2.png', 'kept.png')
    Path('in/2.png').write_bytes(b'')
    assert demo.main(arguments(tiny, 'out')) == 1
    shutil.copy('kept.png', 'in/2.png')
    assert demo.main(arguments(tiny, 'out', '--resume')) == 0
    images = json.loads(Path('out/coco/images.json').read_text())['images']
    assert [(image['id'], image['file_name']) for image in images] == [
        (number, f'in/{number - 1}.png') for number in (1, 2, 4, 5, 3)
    ]


def test_without_the_flag_a_run_begins_anew(demo, tiny):
    assert demo.main(arguments(tiny, 'out')) == 0
    before = contents('out')
    assert demo.main(arguments(tiny, 'out')) == 0
    assert contents('out') == before


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (['--save', 'vis'], '--save was vis json coco yolo labelme csv masks crops in out/journal.jsonl, and is vis: '),
        (['--pred-score-thr', '0.5'], '--pred-score-thr was 0.0 in out/journal.jsonl, and is 0.5: '),
        (['--weights', 'CHECKPOINT'], 'the checkpoint was '),
        (['--palette', 'random'], '--palette was None'),
        ('inputs', 'image 1 of out/journal.jsonl is another one than in/3.png: '),
        ('shorter', 'out/predictions.csv with '),
        ('spoiled', 'line 2 is not of a journal'),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value.split()[0],
)
def test_another_command_is_refused_and_changes_nothing(demo, tiny, capsys, change, words):
    words_of = arguments(tiny, 'out')
    assert demo.main(words_of) == 0
    if change == 'shorter':
        Path('out/predictions.csv').write_text('')
    elif change == 'spoiled':
        lines = Path('out/journal.jsonl').read_text().splitlines(keepends=True)
        Path('out/journal.jsonl').write_text(''.join([lines[0], 'no JSON\n', *lines[1:]]))
    elif change == 'inputs':
        words_of = ['in/3.png', *words_of]
    elif change[0] == '--weights':
        Path('other.pth').write_bytes(tiny.checkpoint.read_bytes() + b' ')
        words_of[2] = 'other.pth'
    else:
        words_of += change
    before = contents('out')
    capsys.readouterr()
    assert demo.main([*words_of, '--resume']) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith('swin-mm predict: '))
    assert words in line
    assert line.endswith('leave --resume out to begin anew')
    assert contents('out') == before
