"""A checkpoint holds the numbers that it announces: no fewer, which memory would fill, and no thousandfold more."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from swin_mm.checkpoints import files
from swin_mm.checkpoints.weights_only import load_weights_only
from swin_mm.errors import CheckpointError

RECONSTRUCT, EMPTY = np.zeros(1).__reduce__()[:2]
FROM_BUFFER = np.zeros(1).__reduce_ex__(5)[0]
F4 = np.dtype('f4')


class Rebuilt:
    """Pickled, it is what ``reduced`` says."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def array_with(raw: bytes) -> Rebuilt:
    return Rebuilt(RECONSTRUCT, EMPTY, (1, (4, 3), F4, False, raw))


def tensor_of(size: tuple[int, int], offset: int = 0) -> Rebuilt:
    storage = torch.full((12,), 7.0)._typed_storage()
    return Rebuilt(torch._utils._rebuild_tensor_v2, (storage, offset, size, (size[1], 1), False, None))


LACKING = {
    'no bytes': array_with(b''),
    'half of them': array_with(bytes(24)),
    'more than these': array_with(bytes(96)),
    'a negative side': Rebuilt(RECONSTRUCT, EMPTY, (1, (-4, 3), F4, False, bytes(48))),
    'protocol 5': Rebuilt(FROM_BUFFER, (b'', F4, (4, 3), 'C')),
    'no state': Rebuilt(RECONSTRUCT, (np.ndarray, (4, 3), b'f')),
    'a scalar': Rebuilt(np.float32(1).__reduce__()[0], (F4, b'')),
    'a storage': tensor_of((40, 30)),
    'the end of a storage': tensor_of((4, 3), offset=6),
}


@pytest.mark.parametrize('case', LACKING)
def test_memory_does_not_stand_in_for_numbers_that_are_not_there(tmp_path, case):
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps({'model': {'a': LACKING[case]}}, 2))
    with pytest.raises(CheckpointError, match=r'a\.pkl is not a checkpoint, or a damaged one'):
        files.read(path)


@pytest.mark.parametrize('whole', [array_with(np.full(12, 7.0, 'f4').tobytes()), tensor_of((4, 3))])
def test_as_many_numbers_as_announced_are_read(tmp_path, whole):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps({'a': whole}, 2))
    assert files.read(tmp_path / 'a.pkl')['a'].tolist() == [[7.0] * 3] * 4


def compressed(content: bytes) -> bytes:
    """The same zip file, with its entries compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as stored, zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as file:
        for entry in stored.infolist():
            file.writestr(entry.filename, stored.read(entry))
    return buffer.getvalue()


LOADS = [
    files.read,
    lambda path: files.read(path, mmap=True),
    load_weights_only,
    lambda path: load_weights_only(io.BytesIO(path.read_bytes())),
]


@pytest.mark.parametrize('load', LOADS)
def test_a_zip_file_is_not_expanded(tmp_path, load):
    buffer = io.BytesIO()
    torch.save({'a': torch.zeros(500, 500)}, buffer)
    (tmp_path / 'a.pth').write_bytes(compressed(buffer.getvalue()))
    assert (tmp_path / 'a.pth').stat().st_size * 100 < len(buffer.getvalue())
    with pytest.raises(RuntimeError, match=r"its entry '\S+' is compressed, and torch\.save stores") as refusal:
        load(tmp_path / 'a.pth')
    assert load not in LOADS[:2] or str(refusal.value).startswith(f'{tmp_path}/a.pth is not a checkpoint')
