"""``swin-mm``: the front door. Help at once, and the nearest name for a typo."""

import re
import subprocess
import sys
import time

import pytest

from swin_mm.__main__ import main, usage
from swin_mm.commands import COMMANDS
from swin_mm.commands.ending import run
from swin_mm.commands.recipes import main as recipes


def test_help_fits_a_screen_and_names_every_command(capsys):
    main(['--help'])
    text = capsys.readouterr().out
    assert text == f'{usage()}\n'
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 110
    assert all(f'  {name} ' in text for name in COMMANDS)


def test_help_starts_without_pytorch():
    code = 'import sys; sys.argv = ["swin-mm", "--help"]; from swin_mm.__main__ import main; main()'
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-c', f'{code}; print("torch" in sys.modules)'], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith('False\n')
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        ([], 'a command is missing'),
        (['trian'], 'there is no command trian: did you mean train?'),
        (['xyz'], 'there is no command xyz: it must be one of train, test, pack, predict'),
    ],
)
def test_what_is_no_command_is_refused(argv, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_command_gets_its_arguments_and_its_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['anything'])
    with pytest.raises(SystemExit) as caught:
        main(['train', 'mask_rcn_swin_t'])
    assert str(caught.value).startswith('swin-mm train: config mask_rcn_swin_t was found neither in ')
    assert 'did you mean mask_rcnn_swin_t' in str(caught.value)
    with pytest.raises(SystemExit):
        main(['flops', '--help'])
    assert capsys.readouterr().out.startswith('usage: swin-mm flops ')


def test_every_recipe_has_a_row_with_figures_and_their_origin(root, capsys):
    rows = {row.name: row for row in recipes([])}
    assert rows.keys() == {path.stem for path in root.glob('configs/*.py')}
    assert rows['mask_rcnn_swin_t'][1:] == ('detection', 'box AP 43.7, mask AP 39.8', 'the official repository')
    assert rows['upernet_swin_l'].source == "Microsoft's README"
    assert rows['upernet_swin_pico_shapes'].source == 'measured here'
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


@pytest.mark.parametrize(('task', 'member'), [('detection', 'mask_rcnn_swin_t'), ('segmentation', 'upernet_swin_t')])
def test_recipes_of_one_task_are_listed(task, member, capsys):
    rows = recipes([task])
    assert {row.task for row in rows} == {task}
    assert member in {row.name for row in rows}
    assert set(re.findall(r'  (detection|segmentation)  ', capsys.readouterr().out)) == {task}


def test_the_page_of_recipes_is_what_the_command_prints_with_a_row_for_each(root, capsys):
    recipes(['--markdown'])
    page = (root / 'docs/models.md').read_text()
    assert page == capsys.readouterr().out, 'write it anew: swin-mm recipes --markdown > docs/models.md'
    rows = re.findall(r'^\| \[(\w+)\]\(\.\./configs/(\w+)\.py\)', page, re.MULTILINE)
    assert sorted(rows) == sorted((path.stem, path.stem) for path in root.glob('configs/*.py'))
    (row,) = [line for line in page.splitlines() if line.startswith('| [upernet_swin_l]')]
    assert row.endswith(" | Microsoft's README | 233.8M | 3230G | 160,000 iterations | 16 |")
    weights = [line.split(' | ')[2] for line in page.splitlines() if line.startswith('| [')]
    assert weights.count('none') == sum('_pico_' in name for name, _ in rows), 'the small ones start from scratch'
    assert weights.count('simmim_pretrain__swin_base__img192_window6__800ep') == 2, 'no address: no link'
    published = re.compile(r'\(https://github.com/SwinTransformer/storage/releases/download/v[12].0.0/swin(v2)?_')
    assert sum(bool(published.search(text)) for text in weights) == len(rows) - weights.count('none') - 2


def test_a_closed_pipe_ends_a_command_without_a_traceback():
    done = subprocess.run(
        f'{sys.executable} -m swin_mm recipes | head -n 1', shell=True, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith('recipe ')
    assert done.stderr == ''


def test_an_error_of_a_pipe_that_is_not_the_output_is_no_quiet_end():
    def main():
        raise BrokenPipeError('of a socket')

    with pytest.raises(BrokenPipeError, match='of a socket'):
        run(main)


@pytest.mark.parametrize('command', ['train', 'doctor'])
def test_without_openmmlab_a_command_says_what_to_install(command, root, tmp_path):
    code = (
        'import sys; sys.modules.update(dict.fromkeys(["mmengine", "mmcv", "mmdet", "mmseg"]));'
        f'sys.argv = ["swin-mm", "{command}"]; from swin_mm.__main__ import main; main()'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    if command == 'doctor':
        assert 'WRONG: ' in done.stdout
    else:
        assert done.stderr.startswith("swin-mm train: mmengine is not installed: pip install 'swin-mm[openmmlab]'")


def test_a_module_in_a_clone_is_called_by_its_name(root):
    done = subprocess.run(
        [sys.executable, '-m', 'swin_mm', 'train', 'gone'], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith('python -m swin_mm train: config gone was found neither')
