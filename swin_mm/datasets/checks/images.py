"""Checks image files: that they are there, can be read and have the announced size, and are in one split only."""

import filecmp
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from .findings import Findings, Offender
from .near_duplicates import Lookalikes, fingerprint

THREADS = 8  # opening a file waits for the disk more than it computes
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: the picture lies on its side
PIECE = 4096  # bytes; images without compression are all of one length, and must not all be read
OVERLAPS = {
    'overlap': 'images are in the training set too, so the metric says little',
    'overlap-content': 'images have the content of an image of the training set, so the metric says little',
    'overlap-look': 'images look nearly like an image of the training set: the same one at another size or quality?',
}
Progress = Callable[[int], object]


class ImageFile(NamedTuple):
    """What a file says. ``size`` is (width, height) in pixels as stored, ``fault`` why it has none.

    ``orientation`` is EXIF's, 1 for one that is shown as stored.
    ``look`` is the `fingerprint` of the pixels if they were decoded.
    """

    path: str
    size: tuple[int, int] | None = None
    orientation: int = 1
    length: int = 0
    fault: str | None = None
    missing: bool = False
    look: int | None = None

    @property
    def turned(self) -> bool:
        """Whether the image is shown on its side."""
        return self.orientation in TURNED

    @property
    def shown_size(self) -> tuple[int, int] | None:
        """The (width, height) with which OpenCV loads the file: turned as its EXIF says."""
        return self.size[::-1] if self.size and self.turned else self.size


def read_file(path: str, decode: bool = False) -> ImageFile:
    """Reads the header of an image, and with ``decode`` all of it."""
    try:
        length = os.stat(path).st_size
        if not length:
            return ImageFile(path, fault='it is empty, 0 bytes')
        with Image.open(path) as image:
            # Of a PNG, Pillow would decode all pixels to look for EXIF behind them.
            orientation = image.getexif().get(ORIENTATION, 1) if 'exif' in image.info else 1
            look = fingerprint(image) if decode else None
            return ImageFile(path, image.size, orientation, length, look=look)
    except FileNotFoundError:
        return ImageFile(path, fault='no such file', missing=True)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return ImageFile(path, fault=f'{type(error).__name__}: {error}'.replace(f' {path!r}', ''))


def read_files(paths: Sequence[str], decode: bool, progress: Progress | None = None) -> list[ImageFile]:
    """Reads all files as `read_file`, in their order; ``progress`` is told how many more are done."""
    results = []
    with ThreadPoolExecutor((os.cpu_count() or 1) if decode else THREADS) as pool:
        for i, result in enumerate(pool.map(lambda path: read_file(path, decode), paths), 1):
            results.append(result)
            if progress and (i % 500 == 0 or i == len(paths)):
                progress(i - (i - 1) // 500 * 500)
    return results


def check_files(
    files: Sequence[ImageFile], announced: Sequence[tuple[int, int]] | None, may_miss: bool, found: Findings
) -> None:
    """Checks ``files`` against the ``announced`` (width, height) of each; None leaves sizes out.

    With ``may_miss`` the training draws other images for a few that cannot be read (`LoadImage`).
    """
    missing = [file.path for file in files if file.missing]
    broken = [Offender(f'{file.path}: {file.fault}', file.path) for file in files if file.fault and not file.missing]
    count = len(missing) + len(broken)
    severity = 'warning' if may_miss and (count < 10 or count <= 0.01 * len(files)) else 'error'
    found.add(severity, 'image-missing', 'images are not there', missing, len(missing))
    found.add(severity, 'image-broken', 'images cannot be read', broken, len(broken))
    if announced is None:
        return
    turned: list[Offender] = []
    other: list[Offender] = []
    for file, size in zip(files, announced, strict=True):
        if file.size and file.shown_size != size:
            is_turned = file.turned and file.size == size
            actual = 'x'.join(map(str, file.shown_size or ()))
            line = f'{file.path}: {actual}, the annotations say {size[0]:g}x{size[1]:g}'
            (turned if is_turned else other).append(Offender(line, file.path))
    sentence = (
        'images (width x height) are turned when they are loaded, by their EXIF orientation, but the annotations are '
        'not: turn the files once and for all (`exiftran -ai`, `mogrify -auto-orient`), or annotate them as seen'
    )
    found.add('error', 'image-turned', sentence, turned, len(turned))
    sentence = 'images are of another size (width x height) than the annotations say'
    found.add('error', 'image-size', sentence, other, len(other))


def check_overlap(train: Iterable[ImageFile], other: Iterable[ImageFile], found: Findings) -> None:
    """Looks for images of the split ``other`` in the training set: the same file, the same content, or the same look.

    Only files of equal length and size are compared; looks are compared where images were decoded.
    """
    same: dict[str, list[Offender]] = {'overlap': [], 'overlap-content': [], 'overlap-look': []}
    joined = {'overlap-content': 'is', 'overlap-look': 'and'}
    for check, file, twin in overlaps(train, other):
        text = f'{file.path} {joined[check]} {twin}' if check in joined else file.path
        same[check].append(Offender(text, file.path))
    for check, sentence in OVERLAPS.items():
        found.add('warning', check, sentence, same[check], len(same[check]))


def overlaps(train: Iterable[ImageFile], other: Iterable[ImageFile]) -> Iterator[tuple[str, ImageFile, str]]:
    """Yields (a key of ``OVERLAPS``, file of ``other``, path of its twin in ``train``)."""
    paths: set[str] = set()
    alike: dict[tuple, list[str]] = {}
    train = list(train)
    for file in train:
        paths.add(os.path.abspath(file.path))
        if file.size:
            alike.setdefault((file.length, file.size), []).append(file.path)
    looks = Lookalikes((file.look, file.path) for file in train if file.look is not None)
    is_copy = _Copies().is_copy
    for file in other:
        if os.path.abspath(file.path) in paths:
            yield 'overlap', file, file.path
        elif file.size:
            twin = next((path for path in alike.get((file.length, file.size), ()) if is_copy(file.path, path)), None)
            near = looks.find(file.look) if file.look is not None and not twin else None
            if twin or near:
                yield ('overlap-content', file, twin) if twin else ('overlap-look', file, str(near))


class _Copies:
    """Compares files of equal length by a piece from their middle, and as a whole if it is equal."""

    def __init__(self) -> None:
        self.pieces: dict[str, bytes] = {}

    def is_copy(self, path: str, other: str) -> bool:
        return self.piece(path) == self.piece(other) and filecmp.cmp(path, other, shallow=False)

    def piece(self, path: str) -> bytes:
        if path not in self.pieces:
            with open(path, 'rb') as file:
                file.seek(os.path.getsize(path) // 2)
                self.pieces[path] = hashlib.sha256(file.read(PIECE)).digest()
        return self.pieces[path]
