"""What kind of file a checkpoint is, by its first bytes and never by its name."""

import os

# torch.save before 1.6: a pickled magic number, protocol 2.
LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
WRONG = {
    b'<': 'a web page (HTML): the address may need a login, or be that of a page about the file',
    b'version https://git-lfs': 'what Git LFS leaves in the place of the file: run `git lfs pull`',
    b'\x1f\x8b': 'compressed by gzip: unpack it first',
    b'\x89HDF': 'written by Keras or TensorFlow (HDF5), not by PyTorch',
}


def format_of(path: str | os.PathLike) -> str:
    """'zip', 'legacy' or 'tar' (all of torch.save), 'pickle' or 'safetensors'; raises ValueError with the reason."""
    with open(path, 'rb') as file:
        head = file.read(512)
    if not head:
        raise ValueError('is not a checkpoint, or a damaged one: it is empty (0 bytes)')
    if head.startswith(b'PK\x03\x04'):
        return 'zip'
    if head.startswith(b'\x80'):
        return 'legacy' if head.startswith(LEGACY) else 'pickle'
    if head[8:9] == b'{' and head[6:8] == b'\0\0':  # the length of the header in 8 bytes, then JSON
        return 'safetensors'
    if head[257:262] == b'ustar':
        return 'tar'
    begins = (text for start, text in WRONG.items() if head.lstrip().startswith(start))
    text = next(begins, f'begins with {head[:8]!r}, as no format of checkpoints does')
    raise ValueError(f'is not a checkpoint, or a damaged one: it {text if text.startswith("begins") else f"is {text}"}')
