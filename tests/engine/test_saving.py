"""Saving leaves the old file or the new one, and older ones until it is whole; a run that saves nothing says so."""

import os
import resource
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from interrupted_run import config, interrupted, train
from kill_run import make_runner, state
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner

from swin_mm.engine import atomic
from swin_mm.engine.atomic import AtomicBackend
from swin_mm.engine.newest import newest_checkpoint
from swin_mm.engine.saving import SafeCheckpointHook
from swin_mm.errors import CheckpointError, PreflightError

pytestmark = pytest.mark.usefixtures('quick_runner')
WIDTH = 64
LIMIT = 30_000  # bytes: more than a log, less than a checkpoint of this width


@contextmanager
def file_size_limit(size: int):
    """Writing stops at this byte of a file, as on a full disk: Python ignores the signal, so that an error comes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


class Full(Hook):
    """No checkpoint of these epochs can be written, or, with ``best``, no best one."""

    priority = 'LOWEST'

    def __init__(self, *epochs: int, best: bool = False):
        self.epochs, self.best = epochs, best

    def before_save_checkpoint(self, runner, checkpoint):
        full = checkpoint['meta']['epoch'] in self.epochs and ('optimizer' in checkpoint) != self.best
        self.limit(LIMIT if full else resource.RLIM_INFINITY)

    def after_train_epoch(self, runner):
        self.limit(resource.RLIM_INFINITY)

    def after_val_epoch(self, runner, metrics=None):
        self.limit(resource.RLIM_INFINITY)

    def limit(self, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture(autouse=True)
def _no_limit():
    with file_size_limit(resource.RLIM_INFINITY):
        yield


@pytest.fixture
def runner(tmp_path):
    """Makes a run of some epochs in ``tmp_path/run``."""

    def make(epochs: int, *hooks: Hook, folder: str = 'run', **settings):
        return make_runner(tmp_path / folder, epochs, WIDTH, hooks, **settings)

    return make


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


@pytest.mark.parametrize('byte', [0, 1, 4096, 99_999])
def test_a_write_that_fails_at_any_byte_changes_nothing(tmp_path, byte):
    path, backend = tmp_path / 'file', AtomicBackend()
    backend.put(b'old', path)
    with file_size_limit(byte), pytest.raises(OSError, match=r'it needs 0\.10 MB, .* MB are free: .*/file') as error:
        backend.put(b'n' * 100_000, path)
    assert error.value.errno
    assert (names(tmp_path), path.read_bytes()) == (['file'], b'old')
    backend.put(b'n' * 100_000, path)
    assert (names(tmp_path), path.read_bytes()) == (['file'], b'n' * 100_000)


@pytest.mark.parametrize('byte', [0, 1, 4096, 99_999])
def test_a_process_killed_at_any_byte_changes_nothing(tmp_path, byte):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with file_size_limit(byte):
            AtomicBackend().put(b'n' * 100_000, path)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGXFSZ
    assert path.read_bytes() == b'old'
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.stat().st_size == byte
    assert atomic.remove_partial_files(tmp_path) == [left]
    assert names(tmp_path) == ['file']


def test_nothing_is_written_where_it_cannot_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.shutil, 'disk_usage', lambda _: SimpleNamespace(total=10, free=2))
    monkeypatch.setattr('builtins.open', None)
    with pytest.raises(OSError, match='No space left on device'):
        AtomicBackend().put(b'123', tmp_path / 'file')


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    done = []
    for name in ('fsync', 'replace'):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (done.append(name), real(*args)))
    AtomicBackend().put_text('é', tmp_path / 'new' / 'file')
    assert done == ['fsync', 'replace', 'fsync']
    assert (tmp_path / 'new' / 'file').read_text(encoding='utf-8') == 'é'


def test_older_checkpoints_go_when_the_new_one_is_whole(runner, tmp_path, monkeypatch):
    whole, remove = [], LocalBackend.remove
    kept = dict(max_keep_ckpts=1)

    def check_and_remove(self, path):
        epoch = int(Path(path).stem.rpartition('_')[2]) + 1
        name = Path(path).name.replace(f'_{epoch - 1}.', f'_{epoch}.')
        whole.append((name, state(tmp_path / 'run' / name)[0]))
        remove(self, path)

    monkeypatch.setattr(AtomicBackend, 'remove', check_and_remove)
    runner(3, checkpoint=kept).train()
    assert whole == [
        *(('epoch_2.pth', 2), ('best_acc_epoch_2.pth', 2)),
        *(('epoch_3.pth', 3), ('best_acc_epoch_3.pth', 3)),
    ]
    assert names(tmp_path / 'run') == ['best_acc_epoch_3.pth', 'epoch_3.pth', 'last_checkpoint']


def test_a_moved_or_copied_run_goes_on(runner, tmp_path):
    runner(2).train()
    original = tmp_path / 'run'
    assert (original / 'last_checkpoint').read_text() == str(original / 'epoch_2.pth'), 'as mmengine writes it'
    before = names(original)
    shutil.copytree(original, tmp_path / 'copy')
    (tmp_path / 'copy' / '.epoch_3.pth.0a.partial').touch()
    run = runner(3, folder='copy', resume=True)
    run.train()
    assert run.iter == 6
    assert names(original) == before, 'a copy removes nothing of the original'
    assert names(tmp_path / 'copy') == ['best_acc_epoch_3.pth', 'epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']


def test_the_note_never_names_what_is_removed(runner, tmp_path):
    """As after two kills, each between a checkpoint and its note: what is noted is the first to be removed."""
    folder, kept = tmp_path / 'run', dict(max_keep_ckpts=1, save_best=None)
    runner(2, checkpoint=kept).train()
    shutil.copy(folder / 'epoch_2.pth', folder / 'epoch_1.pth')
    (folder / 'last_checkpoint').write_text('epoch_1.pth')
    for name in ('epoch_1.pth', 'last_checkpoint'):
        os.utime(folder / name, (0, 0))
    with pytest.raises(CheckpointError):
        runner(3, Full(3), resume=True, checkpoint=kept).train()
    assert not (folder / 'epoch_1.pth').exists()
    assert newest_checkpoint(folder) == (folder / 'epoch_2.pth', [])
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_2.pth')


def test_a_resume_from_elsewhere_removes_nothing(runner, tmp_path):
    runner(2).train()
    runner(1, folder='other').train()
    run = runner(3, folder='other', resume=True, load_from=str(tmp_path / 'run/epoch_2.pth'))
    run.train()
    assert {'epoch_1.pth', 'epoch_3.pth'} <= set(names(tmp_path / 'other'))
    assert names(tmp_path / 'run') == ['best_acc_epoch_2.pth', 'epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']


def test_training_goes_on_where_a_checkpoint_cannot_be_written(runner, tmp_path, capfd):
    run = runner(4, Full(2, 3), checkpoint=dict(max_keep_ckpts=1, save_best=None))
    run.train()
    said = capfd.readouterr().out
    for epoch in (2, 3):
        (line,) = [line for line in said.splitlines() if f'/run/epoch_{epoch}.pth' in line]
        assert 'THE CHECKPOINT WAS NOT SAVED: ' in line
        assert 'File too large; it needs 0.08 MB' in line
        assert f'The newest whole one is {tmp_path}/run/epoch_1.pth. Training goes on' in line
    assert names(tmp_path / 'run') == ['epoch_4.pth', 'last_checkpoint']
    assert run.message_hub.get_info('keep_ckpt_ids') == [4]
    assert torch.load(tmp_path / 'run/epoch_4.pth')['message_hub']['runtime_info']['keep_ckpt_ids'] == [1, 4]


def test_a_run_whose_last_checkpoint_is_not_saved_ends_with_an_error(runner, tmp_path):
    with pytest.raises(CheckpointError, match=r'epoch_3\.pth.*The newest whole one is .*/epoch_2\.pth') as error:
        runner(3, Full(3), checkpoint=dict(max_keep_ckpts=1)).train()
    assert 'go on from it with --resume' in str(error.value)
    # The best one is that of epoch 3: it fitted.
    assert names(tmp_path / 'run') == ['best_acc_epoch_3.pth', 'epoch_2.pth', 'last_checkpoint']
    run = runner(3, resume=True, checkpoint=dict(max_keep_ckpts=1))
    run.train()
    assert state(newest_checkpoint(tmp_path / 'run')[0])[0] == 3


def test_the_best_stays_until_a_better_one_is_whole(runner, tmp_path):
    run = runner(3, Full(2, 3, best=True))
    with pytest.raises(CheckpointError, match=r'best_acc_epoch_3\.pth'):
        run.train()
    assert 'best_acc_epoch_1.pth' in names(tmp_path / 'run')
    assert 'epoch_3.pth' in names(tmp_path / 'run')
    assert run.message_hub.get_info('best_score') == 2  # steps: those of the file that is there
    assert run.message_hub.get_info('best_ckpt') == str(tmp_path / 'run' / 'best_acc_epoch_1.pth')
    runner(4, resume=True).train()
    assert [name for name in names(tmp_path / 'run') if name.startswith('best')] == ['best_acc_epoch_4.pth']


def test_a_folder_that_cannot_be_written_to_is_found_before_the_first_step(runner, tmp_path):
    (tmp_path / 'file').touch()
    run = runner(1, checkpoint=dict(out_dir=str(tmp_path / 'file')))
    with pytest.raises(PreflightError, match=r'cannot be written to .*/file/run: Not a directory.* --work-dir'):
        run.train()
    assert run.iter == 0


@pytest.mark.parametrize('fits', [False, True])
def test_a_disk_without_room_is_found_before_the_first_step(runner, tmp_path, monkeypatch, capfd, fits):
    free = 60_000 if fits else 40_000  # 4160 numbers, 3 times: 49,920 bytes, and one of 8
    usage = SimpleNamespace(total=10**6, free=free)
    run = runner(1, log_level='WARNING')
    hook = next(hook for hook in run.hooks if isinstance(hook, SafeCheckpointHook))
    run._train_loop = run.build_train_loop(run._train_loop)
    monkeypatch.setattr(atomic.shutil, 'disk_usage', lambda _: usage)
    if not fits:
        with pytest.raises(PreflightError, match=r'has 0\.04 MB free, a checkpoint needs about 0\.05 MB: make room'):
            hook.before_train(run)
        return
    hook.before_train(run)
    said = capfd.readouterr().out
    assert 'this run will need up to 0.20 MB for 4 more checkpoints: the disk may get full (max_keep_ckpts=2)' in said


def test_the_strategies_of_a_flexible_runner_write_whole_files_too(tmp_path, monkeypatch):
    written, put = [], AtomicBackend.put
    monkeypatch.setattr(AtomicBackend, 'put', lambda self, obj, path: (written.append(str(path)), put(self, obj, path)))
    train(config(tmp_path), runner_class=FlexibleRunner)
    assert {str(tmp_path / f'epoch_{epoch}.pth') for epoch in (1, 2, 3)} <= set(written)
    assert type(get_file_backend('a.pth')) is LocalBackend, 'other files of the program are written as before'


@pytest.mark.parametrize('runner_class', [Runner, FlexibleRunner])
def test_mmengine_finds_the_note_of_an_interruption(tmp_path, monkeypatch, runner_class):
    """In a config with mmengine's own hook for checkpoints, and from another directory."""
    settings = config(tmp_path / 'run')
    settings['default_hooks'] = dict(checkpoint=dict(type='CheckpointHook', interval=5))
    (tmp_path / 'run').mkdir()
    interrupted(settings, at=6, runner_class=runner_class)
    (tmp_path / 'interrupted.pth').write_bytes(b'of somebody else')
    monkeypatch.chdir(tmp_path)
    seen = []

    class First(Hook):
        def before_train(self, runner):
            seen.append(runner.iter)

    assert train(settings, (First(),), resume=True, runner_class=runner_class).iter == 15
    assert seen == [7]


def test_other_storage_is_left_to_mmengine():
    assert SafeCheckpointHook(out_dir='s3://bucket').backend_args is None
    assert SafeCheckpointHook(backend_args=dict(backend='petrel')).backend_args == dict(backend='petrel')
    assert SafeCheckpointHook().backend_args == dict(backend='swin_mm.atomic')
