"""The newest checkpoint that is whole is found, and what was passed over is said."""

import os
import time
from pathlib import Path

import pytest
import torch
from kill_run import make_runner

from swin_mm.engine.newest import checkpoint_folders, newest_checkpoint
from swin_mm.errors import CheckpointError

pytestmark = pytest.mark.usefixtures('quick_runner')


def make_checkpoints(folder: Path, *filenames: str) -> None:
    """Files of one size, the last one the youngest, each with its place in the list as its epoch."""
    for i, name in enumerate(filenames):
        content = dict(meta=dict(epoch=i), message_hub={}, state_dict=dict(weight=torch.full((500,), i)))
        torch.save(content, folder / name)
        age = time.time_ns() + (i - len(filenames)) * 10**9
        os.utime(folder / name, ns=(age, age))


def damage(path: Path, how: str) -> None:
    """Changes a file, not its times."""
    content, times = path.read_bytes(), path.stat()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(dict(cut=content[:-1], half=content[:middle], empty=b'', flipped=flipped, text=b'<html>')[how])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize('how', ['cut', 'half', 'empty', 'flipped', 'text'])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, how):
    make_checkpoints(tmp_path, 'epoch_9.pth', 'epoch_10.pth')
    (tmp_path / 'last_checkpoint').write_text('epoch_10.pth')
    assert newest_checkpoint(tmp_path) == (tmp_path / 'epoch_10.pth', [])
    damage(tmp_path / 'epoch_10.pth', how)
    path, (reason,) = newest_checkpoint(tmp_path)
    assert path == tmp_path / 'epoch_9.pth'
    assert reason.startswith(f'{tmp_path}/epoch_10.pth is ')
    damage(path, how)
    assert newest_checkpoint(tmp_path)[0] is None


def test_a_checkpoint_of_weights_alone_is_passed_over(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'epoch_1.pth')
    reason = f'{tmp_path}/epoch_1.pth holds no state of a training: no meta, message_hub'
    assert newest_checkpoint(tmp_path) == (None, [reason])
    assert newest_checkpoint(tmp_path / 'gone') == (None, [])


@pytest.mark.parametrize(
    ('files', 'note', 'found'),
    [
        (['epoch_1.pth', 'epoch_2.pth'], None, 'epoch_2.pth'),
        (['epoch_1.pth', 'epoch_2.pth'], '', 'epoch_2.pth'),
        (['epoch_1.pth', 'epoch_2.pth'], 'epoch_1.pth', 'epoch_1.pth'),  # chosen by hand: the note is younger
        (['epoch_1.pth', 'epoch_2.pth'], '/old/place/epoch_1.pth', 'epoch_1.pth'),
        (['epoch_1.pth', 'epoch_2.pth'], 'epoch_3.pth', 'epoch_2.pth'),
        (['epoch_12.pth', 'epoch_1.pth', 'epoch_2.pth'], None, 'epoch_2.pth'),  # 12 is of an earlier run
        (['epoch_1.pth', 'iter_5.pth', 'best_acc_epoch_2.pth', 'other.pth'], None, 'iter_5.pth'),
        (['iter_5.pth', 'interrupted.pth'], None, 'interrupted.pth'),
    ],
)
def test_which_checkpoint_is_the_newest(tmp_path, files, note, found):
    make_checkpoints(tmp_path, *files)
    if note is not None:
        (tmp_path / 'last_checkpoint').write_text(note)
    assert newest_checkpoint(tmp_path)[0] == tmp_path / found


def test_a_copy_never_goes_on_from_the_original(tmp_path):
    original, copy = tmp_path / 'original', tmp_path / 'copy'
    for folder in (original, copy):
        folder.mkdir()
        make_checkpoints(folder, 'epoch_1.pth', 'epoch_2.pth')
        (folder / 'last_checkpoint').write_text(f'{original}/epoch_2.pth')
    assert newest_checkpoint(copy) == (copy / 'epoch_2.pth', [])
    (copy / 'epoch_2.pth').unlink()
    assert newest_checkpoint(copy) == (copy / 'epoch_1.pth', [f'{copy}/epoch_2.pth is not there'])


def test_checkpoints_that_are_kept_elsewhere_are_found(tmp_path):
    run, elsewhere = checkpoint_folders(tmp_path / 'run', tmp_path / 'out')
    assert (run, elsewhere) == (tmp_path / 'run', tmp_path / 'out/run')
    for folder in (run, elsewhere):
        folder.mkdir(parents=True)
    make_checkpoints(elsewhere, 'epoch_1.pth', 'epoch_2.pth')
    (run / 'last_checkpoint').write_text('epoch_1.pth')
    assert newest_checkpoint(run, elsewhere) == (elsewhere / 'epoch_1.pth', [])
    assert checkpoint_folders(run, None) == checkpoint_folders(run, 's3://bucket') == [run]


def test_a_checkpoint_that_a_kill_kept_from_being_noted_is_the_newest(tmp_path):
    make_checkpoints(tmp_path, 'epoch_2.pth', 'epoch_1.pth', 'epoch_3.pth')
    (tmp_path / 'last_checkpoint').write_text('epoch_2.pth')
    for name, age in (('epoch_2.pth', 3), ('last_checkpoint', 2), ('epoch_1.pth', 1), ('epoch_3.pth', 1)):
        os.utime(tmp_path / name, (0, 1000 - age))
    # epoch_1 is younger than the note only because it was copied.
    assert newest_checkpoint(tmp_path)[0] == tmp_path / 'epoch_3.pth'


def test_a_resume_takes_the_newest_whole_one_or_is_refused(tmp_path, capfd):
    make_runner(tmp_path / 'run', 2).train()
    damage(tmp_path / 'run' / 'epoch_2.pth', 'half')
    run = make_runner(tmp_path / 'run', 1, resume=True, log_level='WARNING')
    run.call_hook('before_run')
    assert run._load_from == str(tmp_path / 'run' / 'epoch_1.pth')
    assert f'passed over: {tmp_path}/run/epoch_2.pth is damaged' in capfd.readouterr().out
    damage(tmp_path / 'run' / 'epoch_1.pth', 'cut')
    with pytest.raises(CheckpointError, match=r'no checkpoint in .*/run is whole: .*epoch_2\.pth is .*epoch_1\.pth is'):
        make_runner(tmp_path / 'run', 1, resume=True).train()
