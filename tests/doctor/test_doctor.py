"""The doctor: its report on a sound machine, what it says of broken ones, and what it keeps to itself."""

import errno
import getpass
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mmengine.runner.checkpoint
import pytest
import torch

from swin_mm import kernels
from swin_mm.compat import mmcv_ops
from swin_mm.doctor import __main__ as doctor
from swin_mm.doctor import install, machine, work
from swin_mm.doctor.report import AbsentError, Check, WrongError, private, write_report

NEEDED = {package.module for package in install.PACKAGES if package.needed}
MACHINE = {check.name for check in machine.checks()}


def package_named(module: str) -> install.Package:
    return next(package for package in install.PACKAGES if package.module == module)


@pytest.fixture
def verdict(capsys) -> Callable[..., str]:
    """The report's lines on one check, in one."""

    def verdict(run: Callable[[], str], advice: str = 'call a doctor') -> str:
        write_report([Check('it', run, advice)])
        return ' '.join(capsys.readouterr().out.split())

    return verdict


def test_here_everything_works(capsys):
    """Whether there is room on the disk and the like is the machine's affair."""
    wrong = write_report([*install.checks(), *machine.checks(), *work.checks()])
    report = capsys.readouterr().out
    assert set(wrong) <= MACHINE, report
    assert all(len(line) <= 120 for line in report.splitlines())
    assert re.search(r'^mmcv ops +ok +(ours, on torchvision: .*\bnms\b|native)', report, re.MULTILINE | re.DOTALL)
    assert re.search(r'^kernel cpu +ok +error cpu float32 \de-0\d in value', report, re.MULTILINE)


def test_what_is_private_is_not_in_the_report(capsys, monkeypatch, tmp_path):
    home = tmp_path / 'home' / 'jane_doe'
    (home / 'runs').mkdir(parents=True)
    for name, value in (('HOME', home), ('USER', 'jane_doe'), ('LOGNAME', 'jane_doe'), ('MY_TOKEN', 'hunter2')):
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(home / 'runs')
    monkeypatch.setattr(tempfile, 'tempdir', str(home))

    def leak() -> str:
        raise OSError(f'{home}/weights.pth, {Path.cwd()}/a.pth, {sys.prefix}/lib, {doctor.__file__}, /data/jane_doe/x')

    write_report([install.checks()[0], install.checks()[1], *machine.checks(), Check('leak', leak)])
    report = capsys.readouterr().out
    assert '/weights.pth, <here>/a.pth, <python>/lib, <root>/swin_mm/doctor/__main__.py, /data/USER/x' in ' '.join(
        report.split()
    )
    for secret in ('jane_doe', 'hunter2', 'MY_TOKEN', str(tmp_path)):
        assert secret not in report


def test_names_that_only_begin_like_a_private_folder_stay(monkeypatch):
    monkeypatch.setenv('HOME', '/home/jo')
    monkeypatch.setattr(getpass, 'getuser', lambda: 'torch')
    assert (
        private('/home/jo/x /home/jonas/x import torch /data/torch/x') == '~/x /home/jonas/x import torch /data/USER/x'
    )


def test_only_these_variables_are_shown(monkeypatch, verdict):
    for name in machine.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert verdict(machine.environment).startswith('it not here none of CUDA_LAUNCH_BLOCKING')
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert verdict(machine.environment) == 'it ok OMP_NUM_THREADS=3'


@pytest.mark.parametrize('error', [ValueError('bad'), SystemExit('bad'), ImportError('bad'), AssertionError('bad')])
def test_whatever_a_check_raises_the_next_one_runs(capsys, error):
    def fail() -> str:
        print('noise')
        raise error

    assert write_report([Check('first', fail, 'call a doctor'), Check('second', lambda: 'fine')]) == ['first']
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        rf'first +WRONG +{type(error).__name__}: bad \(test_doctor, line \d+\). To do: call a doctor', first
    )
    assert re.fullmatch('second +ok +fine', second)


def test_a_name_is_there_before_its_check_runs(capsys):
    """So that a report says which check ended the process, as a broken native library does."""
    seen = []
    write_report([Check('crash', lambda: seen.append(capsys.readouterr().out) or '')])
    assert seen[0].strip() == 'crash'


def test_ctrl_c_ends_the_report():
    def interrupt() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report([Check('first', interrupt)])


@pytest.mark.parametrize(('outcome', 'status'), [(None, 0), (AbsentError('x'), 0), (WrongError('x', 'y'), 1)])
def test_exit_status(monkeypatch, capsys, outcome, status):
    def run() -> str:
        if outcome:
            raise outcome
        return 'fine'

    for module, checks in ((install, [Check('one', run)]), (machine, []), (work, [])):
        monkeypatch.setattr(module, 'checks', lambda checks=checks: checks)
    assert doctor.main() == status
    assert capsys.readouterr().out.endswith('\n1 WRONG: one\n' if status else '\nNothing is wrong.\n')


def test_a_check_that_never_ends_is_ended(monkeypatch, capfd):
    ended = threading.Event()
    monkeypatch.setattr(os, '_exit', lambda status: ended.set())
    monkeypatch.setattr(doctor, 'TIME', 0.01)
    monkeypatch.setattr(install, 'checks', lambda: [Check('driver', lambda: str(ended.wait(60)))])
    for module in (machine, work):
        monkeypatch.setattr(module, 'checks', list)
    doctor.main()
    assert ended.is_set()
    assert 'WRONG     still not finished after 0.01 s' in capfd.readouterr().out


@pytest.mark.parametrize('package', install.PACKAGES, ids=lambda package: package.name)
def test_a_missing_package_is_named(monkeypatch, verdict, package):
    monkeypatch.setitem(sys.modules, package.module, None)
    text = verdict(lambda: install.package(package))
    assert re.match(rf'it WRONG .* is installed, but its module {package.module} is gone. To do: ', text)
    monkeypatch.setattr(install, 'version', version_of_nothing)
    text = verdict(lambda: install.package(package))
    assert text.startswith('it WRONG it is not installed' if package.needed else 'it not here ')
    assert 'pip install -r requirements.txt' in text or not package.needed


def version_of_nothing(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_without_any_package_there_is_a_report(root, tmp_path):
    """A fresh Python in which not even PyTorch is found: every check has its line."""
    modules = [package.module for package in install.PACKAGES]
    code = f'import runpy, sys; sys.modules.update(dict.fromkeys({modules}));'
    code += f'runpy.run_path({str(root / "swin_mm" / "doctor")!r}, run_name="__main__")'
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ''
    assert done.returncode == 1
    lines, _, last = done.stdout.rpartition('\n\n')
    assert re.match(r'\d+ WRONG: swin_mm, torch, ', last)
    verdicts = dict(re.findall(r'^(\S.*?) +(ok|WRONG|not here)\b', lines, re.MULTILINE))
    assert set(verdicts) == {check.name for part in (install, machine, work) for check in part.checks()}
    assert {verdicts[package_named(module).name] for module in NEEDED} == {'WRONG'}
    assert verdicts['python'] == verdicts['disk here'] == 'ok'


def test_a_package_that_is_too_old(monkeypatch, verdict):
    monkeypatch.setattr(torch, '__version__', '2.1.2+cu118')
    assert '2.1.2+cu118 is older than 2.5.1. To do: pip install' in verdict(
        lambda: install.package(package_named('torch'))
    )
    monkeypatch.setattr(torch, '__version__', '2.10.0')
    assert verdict(lambda: install.package(package_named('torch'))).startswith('it ok 2.10.0')


def test_a_package_that_cannot_be_imported(monkeypatch, verdict, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    (tmp_path / 'mmcv.py').write_text("raise ImportError('libcudart.so.11.0: cannot open shared object file')")
    text = verdict(lambda: install.package(package_named('mmcv')))
    assert re.match(r'it WRONG ImportError: libcudart\.so\.11\.0: .* \(mmcv, line 1\). To do: call a doctor', text)


def test_ranges_are_those_of_the_project(root):
    text = (root / 'pyproject.toml').read_text()
    lower = {name: f'{number}' for name, number in re.findall(r'"([\w-]+)>=([\d.]+)', text)}
    for package in install.PACKAGES:
        for name in set(package.distributions) & set(lower) - {'onedl-mmengine'}:
            if not name.startswith('onedl-'):  # newer forks of the same
                assert package.oldest == lower[name], name
    assert re.search(r'requires-python = ">=(.*),<(.*)"', text).groups() == install.PYTHON
    assert {p.name for p in install.PACKAGES if p.needed} - {'mmengine'} == set(
        re.findall(r'"([\w-]+)>=', re.search(r'^dependencies = \[(.*?)^\]', text, re.MULTILINE | re.DOTALL)[1])
    )


@pytest.mark.parametrize('op', ['nms', 'roi_align'])
def test_ops_that_are_wrong(monkeypatch, verdict, op):
    import mmcv.ops

    right = getattr(mmcv.ops, op)
    twisted = {'nms': lambda b, s, t: right(b, -s, t), 'roi_align': lambda x, *a: right(x, *a) + 0.1}
    monkeypatch.setattr(mmcv.ops, op, twisted[op])
    assert verdict(install.mmcv_ops).startswith('it WRONG nms keeps boxes')


def test_native_ops_are_told_from_ours():
    native = ModuleType('mmcv._ext')
    native.__spec__, native.__file__ = SimpleNamespace(loader=object()), '/somewhere/_ext.cpython-311.so'
    assert install._whose(native) == 'native, _ext.cpython-311.so'
    native.__spec__.loader = mmcv_ops.FINDER
    assert install._whose(native).startswith('ours, on torchvision: bbox_overlaps carafe ')


@pytest.mark.parametrize(
    ('check', 'advice'),
    [
        (lambda: machine.disk(Path.cwd(), machine.ROOM['here']), 'make room: 2.0 GiB at least'),
        (machine.shared_memory, 'docker run --shm-size=8g'),
    ],
    ids=['disk', 'shared memory'],
)
def test_too_little_room(monkeypatch, verdict, check, advice):
    if check is machine.shared_memory and not Path('/dev/shm').is_dir():
        pytest.skip('there is no /dev/shm')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=60 * 2**20, total=64 * 2**20))
    assert re.match(rf'it WRONG 0\.1 GiB of 0\.1 GiB free.* To do: .*{advice}', verdict(check))


def test_a_gpu_that_pytorch_cannot_use(monkeypatch, verdict):
    exists = os.path.exists
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(os.path, 'exists', lambda path: path == '/dev/nvidiactl' or exists(path))
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert verdict(machine.gpu).startswith('it WRONG there is an NVIDIA device, but PyTorch, built')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert verdict(machine.gpu) == 'it not here hidden by CUDA_VISIBLE_DEVICES'


def test_every_kernel_is_looked_at():
    assert list(work.KERNELS) == list(kernels.KERNELS)


@pytest.mark.parametrize('fault', ['value', 'gradient', 'nan'])
def test_a_kernel_that_is_wrong(monkeypatch, verdict, fault):
    right = kernels.KERNELS['sdpa']

    def wrong(*arguments):
        out = right(*arguments)
        factor = {'value': 1.001, 'gradient': 1.0, 'nan': torch.nan}[fault]
        if fault == 'gradient':
            out.register_hook(lambda gradient: gradient * 1.001)
        return out * factor

    monkeypatch.setitem(kernels.KERNELS, 'sdpa', wrong)
    text = verdict(lambda: work.kernel('sdpa'))
    assert re.match(r"it WRONG its error is cpu float32 .* To do: .*kernel='reference'", text)


def test_a_checkpoint_that_comes_back_otherwise(monkeypatch, verdict):
    loader = mmengine.runner.checkpoint.CheckpointLoader
    load = loader.load_checkpoint

    def changed(*args, **kwargs):
        loaded = load(*args, **kwargs)
        next(iter(loaded['optimizer']['state'].values()))['exp_avg'] += 1e-3
        return loaded

    monkeypatch.setattr(loader, 'load_checkpoint', changed)
    assert verdict(work.checkpoint).startswith('it WRONG a step after a resume differs')


def test_a_checkpoint_that_cannot_be_written(monkeypatch, verdict):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mmengine.runner.checkpoint, 'save_checkpoint', full)
    assert verdict(work.checkpoint).startswith('it WRONG OSError: [Errno 28] No space left on device (')


@pytest.mark.slow
def test_the_command_from_a_fresh_python(root, tmp_path):
    """In less than 20 seconds of one core's time, which other processes do not lengthen."""
    env = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    before = os.times()
    done = subprocess.run(
        [sys.executable, '-m', 'swin_mm.doctor'], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    after = os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    wrong = re.findall(r'^(\S.*?) +WRONG', done.stdout, re.MULTILINE)
    assert set(wrong) <= MACHINE, done.stdout
    assert done.returncode == bool(wrong)
    assert done.stderr == ''
    assert taken < 20
