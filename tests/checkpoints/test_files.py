"""Every format of checkpoints is read as data; what is none, or would run code, is refused in one line."""

import io
import os
import pickle
import re
import subprocess
import tarfile
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleLR
from safetensors.torch import save_file

from swin_mm.checkpoints import files
from swin_mm.checkpoints.pickles import STAND_INS

STATE = {'norm.weight': torch.arange(5.0), 'head.weight': torch.ones(2, 3, dtype=torch.float16)}


def same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors', 'a.misnamed'])
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('mmap', [True, False])
def test_what_pytorch_saves_is_read(tmp_path, name, zipped, mmap):
    torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=zipped)
    same(files.read(tmp_path / name, mmap=mmap), STATE)


def test_safetensors_are_read_whatever_their_name(tmp_path):
    save_file(STATE, tmp_path / 'model.bin')
    same(files.read(str(tmp_path / 'model.bin')), STATE)


ARRAYS = {
    'f4': np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    'fortran': np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    'f2': np.ones((3, 1), np.float16),
    'i8': np.array([-1, 2**40]),
    'bool': np.array([True, False]),
    'empty': np.zeros((0, 4), np.float32),
    'one': np.array(3.5),
    'view': np.arange(12, dtype=np.int32)[::2],
}


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_pickles_of_arrays_are_read_as_detectron2_writes_them(tmp_path, protocol):
    scalars = dict(steps=np.int64(7), best=np.float32(0.5))
    content = {'model': OrderedDict(ARRAYS), '__author__': 'somebody', 'matching_heuristics': True, **scalars}
    (tmp_path / 'swin.pkl').write_bytes(pickle.dumps(content, protocol))
    found = files.read(tmp_path / 'swin.pkl')
    same(found['model'], {key: torch.from_numpy(value.copy()) for key, value in ARRAYS.items()})
    assert found['__author__'] == 'somebody'
    assert (found['steps'], found['best'], found['matching_heuristics']) == (7, 0.5, True)


def test_a_pickle_of_python_2_is_read(tmp_path):
    """As cPickle wrote ``{'a': numpy.arange(3.)}``: bytes are strings there."""
    raw = np.arange(3.0).tobytes()
    array = (
        b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01K\x03\x85cnumpy\ndtype\nU\x02f8'
        b'K\0K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89U\x18' + raw + b'tb'
    )
    content = b'\x80\x02}U\x01a' + array + b's.'
    (tmp_path / 'old.pkl').write_bytes(content)
    assert files.read(tmp_path / 'old.pkl')['a'].tolist() == [0.0, 1.0, 2.0]


needs_names = pytest.mark.skipif(torch.__version__ < '2.6', reason='PyTorch 2.5 takes no stand-ins')


@needs_names
def test_a_training_checkpoint_of_mmengine_is_read(tmp_path):
    """As mmengine 0.10.7 saves it by itself: logs, NumPy scalars, a method of a scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=12)
    content = dict(
        state_dict=OrderedDict(STATE),
        message_hub=dict(log_scalars=OrderedDict(loss=HistoryBuffer([1.5, 2.5], [1, 2]), empty=HistoryBuffer())),
        best=np.float64(0.25),
        meta=dict(dataset_meta=ConfigDict(classes=('a', 'b')), args=Namespace(lr=0.1, steps=[np.int32(3)])),
        param_schedulers=[scheduler.state_dict()],
    )
    assert callable(content['param_schedulers'][0]['anneal_func'])
    torch.save(content, tmp_path / 'epoch_1.pth')
    found = files.read(tmp_path / 'epoch_1.pth')
    same(found['state_dict'], STATE)
    loss = found['message_hub']['log_scalars']['loss']
    assert (loss['log_history'].tolist(), loss['count_history'].tolist()) == ([1.5, 2.5], [1, 2])
    assert loss['max_length'] == 1000000
    assert len(found['message_hub']['log_scalars']['empty']['log_history']) == 0
    assert found['best'] == 0.25
    assert found['meta'] == dict(dataset_meta=dict(classes=('a', 'b')), args=dict(lr=0.1, steps=[3]))
    assert 'anneal_func' not in found['param_schedulers'][0]
    assert found['param_schedulers'][0]['total_steps'] == 12


def attempt(folder: Path, content: bytes) -> dict | None:
    """What is read from such a file; None if it is refused by name."""
    path = folder / 'attempt.pkl'
    path.write_bytes(content)
    try:
        return files.read(path)
    except ValueError as refusal:
        if not str(refusal).startswith(str(path)):
            raise
        return None


@needs_names
def test_what_the_user_allows_stays_allowed_and_harms_nothing(tmp_path):
    """The usual way around the refusal of such a file, in the same program."""
    torch.save(dict(log=HistoryBuffer([1.5], [1]), state_dict={}), tmp_path / 'a.pth')
    torch.save(torch.nn.Linear(1, 1), tmp_path / 'net.pth')
    with torch.serialization.safe_globals([HistoryBuffer, np.ndarray, np.dtype, Path]):
        listed = set(torch.serialization.get_safe_globals())
        assert files.read(tmp_path / 'a.pth')['log']['log_history'].tolist() == [1.5]
        with pytest.raises(ValueError, match='Linear'):
            files.read(tmp_path / 'net.pth')
        assert set(torch.serialization.get_safe_globals()) == listed


class Call:
    """Unpickled, it calls something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


ATTACKS = {
    'Path.touch': lambda trace: Call(Path.touch, trace),
    'posix.system': lambda trace: Call(os.system, f'touch {trace}'),
    'builtins.eval': lambda trace: Call(eval, f"open({str(trace)!r}, 'w')"),
    'builtins.exec': lambda trace: Call(exec, f"open({str(trace)!r}, 'w')"),
    'subprocess.call': lambda trace: Call(subprocess.call, ['touch', str(trace)]),
    # through the one name of these that old checkpoints of mmengine hold
    'builtins.getattr': lambda trace: Call(Call(getattr, trace, 'touch')),
}
SAVE = {
    'zip': lambda content, path: torch.save(content, path),
    'legacy': lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    'pickle': lambda content, path: path.write_bytes(pickle.dumps(content, 2)),
    'pickle of protocol 4': lambda content, path: path.write_bytes(pickle.dumps(content, 4)),
}


@pytest.mark.parametrize('save', SAVE)
@pytest.mark.parametrize('attack', [name for name in ATTACKS if name != 'builtins.getattr'])
def test_no_code_runs_and_its_name_is_told(tmp_path, save, attack):
    trace, path = tmp_path / 'trace', tmp_path / 'weights.pth'
    SAVE[save](dict(state_dict=STATE if 'pickle' not in save else {}, attack=ATTACKS[attack](trace)), path)
    with pytest.raises(ValueError, match=r'holds Python objects \(.*\), which could run code') as caught:
        files.read(path)
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)
    assert not trace.exists()

    unsafe = pickle.loads(path.read_bytes()) if 'pickle' in save else torch.load(path, weights_only=False)
    assert trace.exists(), f'the attack works: {unsafe}'


GETATTR = b'c__builtin__\ngetattr\n(cmmengine.logging.history_buffer\nHistoryBuffer\nX\x08\0\0\0__init__tR'


@pytest.mark.parametrize('target', [GETATTR, b'c__builtin__\ngetattr\n', b'cnumpy\ndtype\n', b'cnumpy\nndarray\n'])
@pytest.mark.parametrize('rest', [b')R', b'(tR', b'}b', b'N}X\x01\0\0\0aK\x01s\x86b', b')\x81'], ids=repr)
def test_stand_ins_cannot_be_changed_nor_what_they_give_be_called(tmp_path, target, rest):
    """A class or function that is given a state would change for every file after this one."""
    before = {name: (dict(vars(value)), value.__name__) for name, value in STAND_INS.items()}
    found = attempt(tmp_path, b'\x80\x02}X\x01\0\0\0a' + target + rest + b's.')
    assert before == {name: (dict(vars(value)), value.__name__) for name, value in STAND_INS.items()}
    makes_nothing = target != GETATTR and rest in (b')R', b'(tR', b')\x81')
    assert found is None or (makes_nothing and not callable(found.get('a')))


@pytest.mark.parametrize(
    'operation', [b'(i__builtin__\neval\n', b'(c__builtin__\neval\no', b'\x82\x01', b'Pa\n', b'K\x01Q']
)
def test_other_ways_to_call_are_not_understood(tmp_path, operation):
    (tmp_path / 'a.pkl').write_bytes(b'\x80\x02}X\x01\0\0\0a' + operation + b's.')
    with pytest.raises(ValueError, match=r'holds Python objects|damaged'):
        files.read(tmp_path / 'a.pkl')


def zip_of(state: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def legacy_of(state: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def safetensors_of(state: dict) -> bytes:
    from safetensors.torch import save

    return save(state)


def pickle_of(state: dict) -> bytes:
    return pickle.dumps({key: value.numpy() for key, value in state.items()})


def plain_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        file.writestr('readme.txt', 'no weights')
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as file:
        file.addfile(tarfile.TarInfo('sys_info'))
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        for name in ('data.pkl', 'constants.pkl', 'code/net.py'):
            file.writestr(f'net/{name}', b'')
        file.writestr('net/version', '3\n')
    return buffer.getvalue()


WRONG = {
    'empty': (b'', r'empty \(0 bytes\)'),
    'web page': (b'\n <!DOCTYPE html><html>Sign in', r'web page \(HTML\)'),
    'lfs': (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'git lfs pull'),
    'gzip': (b'\x1f\x8b\x08' + bytes(30), 'gzip'),
    'keras': (b'\x89HDF\r\n\x1a\n' + bytes(30), 'HDF5'),
    'text': (b'hello world', "begins with b'hello wo'"),
    'zip': (plain_zip(), 'is not a checkpoint'),
    'tar': (tar(), 'PyTorch 0.1'),
    'torchscript': (torchscript(), 'is not a checkpoint'),
    'list': (zip_of([1, 2]), 'must hold a dictionary of tensors, got list'),
    'objects in an array': (pickle.dumps(dict(a=np.array(['x', None]))), "array of 'O8', which is no number"),
    'big-endian': (pickle.dumps(dict(a=np.arange(3, dtype='>f4'))), 'big-endian'),
    'recursion': (b'\x80\x02' + b']' + b'\x85' * 3000 + b'.', 'is not a checkpoint'),
}


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        files.read(path)
    message = str(caught.value)
    assert '\n' not in message
    assert len(message) < 500 + len(str(path))
    return message


@pytest.mark.parametrize('kind', WRONG)
def test_another_file_is_refused_by_name_with_the_reason(tmp_path, kind):
    content, words = WRONG[kind]
    assert re.search(words, refused(tmp_path / 'a.pth', content))


@pytest.mark.parametrize('write', [zip_of, legacy_of, safetensors_of, pickle_of])
def test_no_part_of_a_file_is_taken_for_the_whole(tmp_path, write):
    whole = write(STATE)
    (tmp_path / 'whole').write_bytes(whole)
    same(files.read(tmp_path / 'whole'), STATE)
    for size in np.linspace(1, len(whole) - 1, 40, dtype=int):
        refused(tmp_path / 'part', whole[:size])


def test_a_flipped_bit_in_a_pickle_gives_an_error_or_numbers(tmp_path):
    """Never anything but data; most hit the numbers, which a pickle has no checksum for."""
    whole = pickle_of({'a': torch.arange(4.0)})
    for place in range(len(whole)):
        found = attempt(tmp_path, whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        if found is not None:
            assert all(isinstance(value, torch.Tensor | int | float | str | bytes) for value in found.values())


def test_lists_in_lists_in_lists_take_no_time(tmp_path):
    content = []
    for _ in range(200):
        content = [content, content]
    torch.save(dict(a=content), tmp_path / 'a.pth')
    assert files.read(tmp_path / 'a.pth')['a'][0][1] is not None


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        files.read(tmp_path / 'gone.pth')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError, match='folder'):
        files.read(tmp_path / 'folder')


def test_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(STATE, tmp_path / 'a.pth')
    same(files.read('~/a.pth'), STATE)
