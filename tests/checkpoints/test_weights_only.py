"""A TorchScript program and a .tar file are refused before PyTorch sees them, also by versions that would take them."""

import io
import pickle
import tarfile

import mmengine
import pytest
import torch
from mmengine.runner import checkpoint as mmengine_checkpoint

from swin_mm import compat
from swin_mm.checkpoints import files
from swin_mm.checkpoints.weights_only import load_weights_only


class Program(torch.nn.Module):
    """Writes a file when it is loaded."""

    def __init__(self, trace: str):
        super().__init__()
        self.trace = trace
        self.total = torch.zeros(())

    @torch.jit.export
    def __getstate__(self):
        return self.trace, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.trace = state[0]
        self.training = state[1]
        self.total = torch.from_file(self.trace, shared=True, size=1).sum()

    def forward(self):
        return self.total


@pytest.fixture
def trace(tmp_path):
    return tmp_path / 'trace'


@pytest.fixture
def program(tmp_path, trace):
    path = tmp_path / 'program.pth'
    torch.jit.script(Program(str(trace))).save(path)
    assert not trace.exists()
    yield path
    assert not trace.exists()
    torch.jit.load(path)
    assert trace.exists(), 'the program works'


def by_a_storage_backend(path):
    return mmengine_checkpoint.torch.load(io.BytesIO(path.read_bytes()))


def from_a_pickle(path):
    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (path.read_bytes(),)

    compat.trust_no_file()  # as our commands do
    mmengine.dump([Storage()], path.with_suffix('.pkl'))
    return mmengine.load(path.with_suffix('.pkl'))


LOADS = [load_weights_only, files.read, lambda path: files.read(path, mmap=True), by_a_storage_backend, from_a_pickle]


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file")
@pytest.mark.parametrize('load', LOADS)
def test_no_program_runs(program, load):
    with pytest.raises((RuntimeError, ValueError), match='TorchScript'):
        load(program)


def test_a_tar_file_that_begins_as_another_format_is_refused(tmp_path):
    """PyTorch takes a file for a .tar file whatever its first bytes, which are a name there."""
    path = tmp_path / 'a.pth'
    name = pickle.dumps(dict(a=1), 2).decode('latin1')
    with tarfile.open(path, 'w', encoding='latin1') as file:
        file.addfile(tarfile.TarInfo(name))
    with pytest.raises(RuntimeError, match=r'legacy \.tar'):
        load_weights_only(path)


@pytest.mark.parametrize('zipped', [True, False])
def test_weights_are_read_from_where_a_file_stands(tmp_path, zipped):
    torch.save(dict(a=torch.ones(2)), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    assert load_weights_only(tmp_path / 'a.pth')['a'].tolist() == [1, 1]
    with open(tmp_path / 'a.pth', 'rb') as file:
        assert load_weights_only(file)['a'].tolist() == [1, 1]
