"""How the embedded data set is written: the same bytes for the same arguments, whole or not at all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swin_mm.datasets.shapes import write as shapes


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def test_train_and_val_share_no_picture_and_seeds_differ(root, tmp_path, counts):
    other = shapes.write_shapes(tmp_path / 'other', train=4, val=4, seed=1)
    pictures = [path.read_bytes() for base in (root, other) for path in base.glob('*/*.jpg')]
    assert len(pictures) == len(set(pictures)) == sum(counts.values()) + 8


def test_a_smaller_set_is_the_beginning_of_a_larger_one(root, tmp_path):
    small, large = files_of(shapes.write_shapes(tmp_path / 'small', train=3, val=2)), files_of(root)
    pictures = [name for name in small if name.suffix in ('.jpg', '.png')]
    assert len(pictures) == 10
    assert all(small[name] == large[name] for name in pictures)


def test_command_line_gives_the_same_bytes_without_mmdet(root, tmp_path, counts):
    command = [sys.executable, '-X', 'importtime', '-m', 'swin_mm.datasets.shapes', str(tmp_path / 'a' / 'shapes')]
    command += [word for name, count in counts.items() for word in (f'--{name}', str(count))]
    here = {**os.environ, 'PYTHONPATH': str(Path(shapes.__file__).parents[2]), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=True)
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'swin_mm.datasets' in imported
    assert not {'mmdet', 'mmseg'} & imported
    assert 'RuntimeWarning' not in done.stderr
    assert '60 train and 12 val pictures, seed 0; written' in done.stdout
    assert files_of(tmp_path / 'a' / 'shapes') == files_of(root)


def test_command_line_reports_reuse_and_errors(root, capsys):
    shapes.main([str(root), '--train', '60', '--val', '12'])
    assert 'kept' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        shapes.main([str(root), '--train', '0'])
    assert 'train must be >= 1, got train=0' in capsys.readouterr().err


def test_a_set_that_is_there_is_not_written_again(root, monkeypatch, counts):
    monkeypatch.setattr(shapes, '_write_split', lambda *_: pytest.fail('written again'))
    times = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert shapes.write_shapes(str(root), **counts) == root
    assert times == {path: path.stat().st_mtime_ns for path in root.rglob('*')}


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    drawn = []

    def draw_two(*arguments, **options):
        if len(drawn) == 2:
            assert list(tmp_path.rglob('*.jpg'))
            raise KeyboardInterrupt
        drawn.append(draw_image(*arguments, **options))
        return drawn[-1]

    draw_image = shapes.draw_image
    monkeypatch.setattr(shapes, 'draw_image', draw_two)
    with pytest.raises(KeyboardInterrupt):
        shapes.write_shapes(tmp_path / 'shapes', train=3, val=1)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_readable_by_the_group(tmp_path):
    (tmp_path / 'shapes').mkdir()
    plain = (tmp_path / 'shapes').stat().st_mode
    written = shapes.write_shapes(tmp_path / 'shapes', train=1, val=1)
    assert json.loads((written / 'shapes.json').read_text())['train'] == 1
    assert written.stat().st_mode == plain
    assert list(tmp_path.iterdir()) == [written]


@pytest.mark.parametrize('content', ['photo.jpg', 'shapes.json'])
def test_a_folder_that_holds_something_else_is_refused(tmp_path, content):
    (tmp_path / content).write_text('mine')
    with pytest.raises(FileExistsError, match='remove that folder') as refusal:
        shapes.write_shapes(tmp_path, train=1, val=1)
    assert str(tmp_path) in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == [content]


def test_a_file_and_a_set_of_other_arguments_are_refused(root, tmp_path, counts):
    (tmp_path / 'file').touch()
    for path, seed in ((tmp_path / 'file', 0), (root, 1)):
        with pytest.raises(FileExistsError, match=f'"seed": {seed}}}, got .*{path.name}'):
            shapes.write_shapes(path, **counts, seed=seed)


@pytest.mark.parametrize(('name', 'value'), [('train', 0), ('val', -1), ('seed', -1)])
def test_counts_and_seed_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name} must be >= .*, got {name}={value}'):
        shapes.write_shapes(tmp_path / 'shapes', **{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('same', [True, False])
def test_the_loser_of_a_race_takes_the_winners_set_or_refuses_another(root, tmp_path, monkeypatch, same):
    small = {'train': 2, 'val': 1}
    winner = shapes.write_shapes(tmp_path / 'winner', **small, seed=0 if same else 1)
    write_split = shapes._write_split

    def overtaken(folder, split, *rest):
        write_split(folder, split, *rest)
        if split == 'val':
            shutil.copytree(winner, tmp_path / 'shapes')

    monkeypatch.setattr(shapes, '_write_split', overtaken)
    if same:
        assert shapes.write_shapes(tmp_path / 'shapes', **small) == tmp_path / 'shapes'
    else:
        with pytest.raises(FileExistsError):
            shapes.write_shapes(tmp_path / 'shapes', **small)
    assert files_of(tmp_path / 'shapes') == files_of(winner)
    assert {path.name for path in tmp_path.iterdir()} == {'winner', 'shapes'}
