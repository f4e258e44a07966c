"""Reads and checks images from files and arrays; says in one sentence why one cannot be taken."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image

from ..checkpoints.downloads import address, is_url
from ..errors import one_line
from .urls import received

# A header of a few bytes can ask for gigabytes.
MAX_PIXELS = 64_000_000
PILLOW_LIMIT = 178_956_970  # Pillow itself takes larger pictures for decompression bombs
# No decoder of Pillow or OpenCV besides these sees what a file holds.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'PPM', 'JPEG2000', 'AVIF')
END_OF_JPEG = b'\xff\xd9'
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.gif')


class Reader(Protocol):
    """How the images of a model are read from files, checked as arrays, and shown.

    ``suffixes`` are those of the files to look for in a folder.
    """

    suffixes: tuple[str, ...]

    def read(self, path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Gives the image of a file or URL; raises ValueError or OSError with the path and the reason."""

    def decode(self, file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Gives the image of an open file as `read` does; errors call it ``name``."""

    def check(self, image: np.ndarray, name: str) -> np.ndarray:
        """Gives an array as `read` gives a file; raises ValueError with ``name`` if it is no such image."""

    def to_rgb(self, image: np.ndarray) -> np.ndarray:
        """Gives uint8 (height, width, 3) in RGB, to draw on."""


class PictureReader:
    """Reads pictures as ``LoadImageFromFile`` does: uint8 (height, width, 3) in BGR, or (height, width) in grey.

    ``color_type`` and ``imdecode_backend`` are its options.
    """

    suffixes: tuple[str, ...] = SUFFIXES

    def __init__(self, color_type: str = 'color', imdecode_backend: str = 'cv2'):
        self.options = dict(flag=color_type, backend=imdecode_backend)
        self.is_grey = color_type.startswith('grayscale')

    def read(self, path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Gives what `read_image` does."""
        return read_image(path, self.options, max_pixels)

    def decode(self, file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Gives what `decode_image` does."""
        return decode_image(file, name, self.options, max_pixels)

    def check(self, image: np.ndarray, name: str) -> np.ndarray:
        """Gives ``image``, in grey without an axis of channels; raises ValueError if it is none."""
        if not self.is_grey:
            return check_array(image, name)
        grey = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        if grey.dtype != np.uint8 or grey.ndim != 2 or 0 in grey.shape:
            raise ValueError(f'{name} must be a uint8 array (height, width), got {image.dtype} {tuple(image.shape)}')
        return grey

    def to_rgb(self, image: np.ndarray) -> np.ndarray:
        """Gives colours without alpha, or grey as colours."""
        return np.stack([image] * 3, axis=2) if image.ndim == 2 else image[..., 2::-1]


class BandReader:
    """Reads files with ``loader``, a ``LoadBands``."""

    def __init__(self, loader: Any):
        self.loader = loader
        self.suffixes, self.check, self.to_rgb = loader.suffixes, loader.check, loader.to_rgb

    def read(self, path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Gives (height, width, bands), uint8 or float32 in [0, 255]."""
        with open_image(path) as file:
            return self.decode(file, image_name(path), max_pixels)

    def decode(self, file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Gives the bands of an open file as `read` does; errors call it ``name``."""
        return self.loader.read(file, name, max_pixels)


def check_max_pixels(max_pixels: int) -> int:
    """Returns ``max_pixels``; raises ValueError for a limit that cannot be kept."""
    if not 1 <= max_pixels <= PILLOW_LIMIT:
        raise ValueError(f'max_pixels must be in [1, {PILLOW_LIMIT}], got {max_pixels}')
    return max_pixels


def read_image(path: str | os.PathLike, reader: dict[str, Any], max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads the image of a file or URL, upright by its EXIF tag, as in training: ``mmcv.imfrombytes(data, **reader)``.

    Of several frames or pages it is the first; 16 bits become 8, alpha is dropped. The header is looked at before
    anything is decoded. Raises ValueError or OSError with the path and the reason.
    """
    name = image_name(path)
    with open_image(path) as file:
        return decode_image(file, name, reader, max_pixels)


def decode_image(file: BinaryIO, name: str, reader: dict[str, Any], max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads the image of an open file as `read_image` does; errors call it ``name``."""
    kind, pixel_data = _check_header(file, name, max_pixels)
    file.seek(0)
    data = file.read()
    # OpenCV 4 paints what is missing gray.
    if kind.startswith('JPEG ') and data.find(END_OF_JPEG, pixel_data) < 0:
        raise ValueError(f'{name}: the file is cut short: {kind} without its end')
    return _decode(data, name, kind, reader)


def image_name(path: str | os.PathLike) -> str:
    """The name of an image in messages: its path, or its URL without query and password, which may be secret."""
    return address(os.fspath(path)) if is_url(path) else str(Path(path))


@contextmanager
def open_image(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file or URL to be read; an OSError, then or later, has the path and the reason."""
    if is_url(path):
        yield BytesIO(received(os.fspath(path)))
        return
    path = Path(path)
    try:
        check_file(path)
        with open(path, 'rb') as file:
            yield file
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(f'{path}: {error.strerror}') from error


def check_array(image: np.ndarray, name: str) -> np.ndarray:
    """Returns ``image``; raises ValueError, with what to do, if it is not uint8 (height, width, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f'{name} must be a uint8 array (height, width, 3) in BGR, got {image.dtype} {tuple(image.shape)}: '
            f'{_advice(image)}'
        )
    return image


def check_file(path: Path) -> None:
    """Raises OSError with the path and the reason if it is not a file."""
    if path.is_file():
        return
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f'{path}: a link to a file that is not there, {os.readlink(path)}')
    if path.is_dir():
        raise IsADirectoryError(f'{path}: a folder, not an image')
    raise OSError(f'{path}: not a regular file') if path.exists() else FileNotFoundError(f'{path}: no such file')


def _check_header(file: BinaryIO, name: str, max_pixels: int) -> tuple[str, int]:
    """Says in words what the header of ``file`` announces, and where Pillow stopped reading it."""
    if not file.read(1):
        raise ValueError(f'{name}: the file is empty (0 bytes)')
    file.seek(0)
    Image.init()
    known = [kind for kind in FORMATS if kind in Image.OPEN]
    try:
        header = Image.open(file, formats=known)
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name}: {error}') from error
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        raise ValueError(
            f'{name}: not an image that OpenCV can decode: its header is damaged, or not that of {", ".join(known)}'
        ) from error
    width, height = header.size
    if width * height > max_pixels:
        raise ValueError(
            f'{name}: must have at most {max_pixels} pixels, got {width}x{height}, which is {width * height}: scale it '
            'down or cut it up, or raise max_pixels'
        )
    return f'{header.format} of {width}x{height} pixels, mode {header.mode}', file.tell()


def _decode(data: bytes, name: str, kind: str, reader: dict[str, Any]) -> np.ndarray:
    import mmcv

    reason = 'it is damaged, cut short, or of a kind that it does not know, such as pixels of 32 bits'
    try:
        image = mmcv.imfrombytes(data, **reader)
    except Exception as error:  # cv2.error, or another backend's
        image, reason = None, one_line(error)
    if image is None:
        raise ValueError(f'{name}: not an image that OpenCV can decode ({kind}): {reason}')
    return image


def _advice(image: np.ndarray) -> str:
    """Says how to make an image of an array that is none."""
    if 0 in image.shape:
        return 'it has no pixels'
    if image.ndim == 2:
        return 'a gray one becomes one with np.stack([image] * 3, axis=2)'
    if image.ndim == 4:
        return 'give several as a list'
    if image.ndim == 3 and image.shape[2] == 4:
        return 'leave the alpha out, image[..., :3]'
    if image.ndim == 3 and image.shape[2] != 3 and image.shape[0] == 3:
        return 'the channels come last, image.transpose(1, 2, 0)'
    if image.dtype == np.bool_:
        return 'say what is white, image.astype(np.uint8) * 255'
    if image.dtype == np.uint16:
        return '(image >> 8).astype(np.uint8) if it uses all 16 bits'
    if image.dtype.kind == 'i':
        return 'image.astype(np.uint8) if its values lie in [0, 255]'
    if image.dtype.kind == 'f':
        broken = int(image.size - np.isfinite(image).sum())
        scale = 'np.rint(image * 255).astype(np.uint8) if its values lie in [0, 1]'
        return f'{broken} of its values are NaN or infinite' if broken else scale
    return 'convert it first'
