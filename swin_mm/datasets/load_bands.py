"""Loads images of any number of bands, such as multispectral ones, from TIFF and NumPy files."""

import math
import os
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from ..errors import one_line

NPY = b'\x93NUMPY'
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # the last two: BigTIFF
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
KINDS = 'uif'  # of a NumPy type: integers and floats
FEWEST_ROWS = 32  # the network's largest stride; a first axis below it is taken for bands
DRAWN = (2, 98)  # percentiles of a band that are drawn black and white


class LoadBands(BaseTransform):
    """Loads bands of a TIFF or ``.npy`` file as channels, with values in [0, 255]; nothing in a file runs.

    An array has its bands last, (H, W, bands), or is one band, (H, W). A TIFF has them as samples of its first page,
    or a page each. Values are integers or floats of any width. Reading TIFF takes the package ``tifffile``, and
    ``imagecodecs`` for compressions such as LZW and JPEG.

    Args:
        bands: Indices of the bands to take, in the order of the model's channels. Drawings show the first three as red,
            green and blue, and RGB weights of the first convolution repeat in this order; so let these come first.
        value_range: (low, high) of the values, which become 0 and 255, float32; values beyond are clipped. None takes
            uint8 as it is and refuses other types.
        backend_args: Storage backend of the files; None means local files.

    Raises:
        ValueError: A file is of another kind, cut short, lacks a band, or has values that are not finite.
    """

    suffixes = ('.npy', '.tif', '.tiff')  # of the files to look for in a folder

    def __init__(
        self,
        bands: Sequence[int],
        value_range: tuple[float, float] | None = None,
        backend_args: dict | None = None,
    ):
        if not bands or min(bands) < 0:
            raise ValueError(f'bands must be indices from 0 on, got bands={tuple(bands)}')
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(f'value_range must be (low, high) with low < high, got value_range={tuple(value_range)}')
        self.bands, self.value_range, self.backend_args = tuple(bands), value_range, backend_args

    def transform(self, results: dict) -> dict:
        """Adds ``img`` (H, W, bands), uint8 or float32, with its shape to ``results``."""
        path = results['img_path']
        image = self.read(BytesIO(fileio.get(path, backend_args=self.backend_args)), path)
        return results | dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])

    def read(self, file: BinaryIO, name: str | os.PathLike, max_pixels: int | None = None) -> np.ndarray:
        """Gives the bands of an open file as `check` does; refuses more than ``max_pixels`` before it decodes."""
        begin = file.read(6)
        file.seek(0)
        if begin == NPY:
            read = _read_npy
        elif begin.startswith(TIFF):
            read = _read_tiff
        else:
            raise ValueError(f'{name}: must be a TIFF or .npy file, got one that begins with {begin!r}')
        try:
            image = read(file, max(self.bands) + 1, max_pixels)
        except ImportError as error:
            raise ImportError(f'{name}: tifffile must be installed to read TIFF: pip install tifffile') from error
        except ValueError as error:
            raise ValueError(f'{name}: {one_line(error)}') from error
        except Exception as error:  # tifffile raises almost anything on a damaged file
            raise ValueError(f'{name}: it is damaged ({type(error).__name__}: {one_line(error)})') from error
        return self.check(image, os.fspath(name))

    def check(self, image: np.ndarray, name: str) -> np.ndarray:
        """Takes the bands of an array (H, W, bands) or (H, W) with values as in a file; the result is as of a file."""
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or 0 in image.shape or image.dtype.kind not in KINDS:
            raise ValueError(
                f'{name} must be numbers (height, width, bands), got {image.dtype} of shape {tuple(image.shape)}'
            )
        if image.shape[0] < FEWEST_ROWS <= image.shape[2]:
            raise ValueError(
                f'{name} must have its bands last, got shape {tuple(image.shape)}: image.transpose(1, 2, 0)'
            )
        if max(self.bands) >= image.shape[2]:
            raise ValueError(f'{name} must have all of bands={self.bands}, got {image.shape[2]} bands, counted from 0')
        return self._scale(image.take(self.bands, axis=2), name)

    def _scale(self, image: np.ndarray, name: str) -> np.ndarray:
        if self.value_range is None:
            if image.dtype != np.uint8:
                raise ValueError(
                    f'{name}: LoadBands needs value_range=(low, high) for {image.dtype}, got None: these become 0 and '
                    f'255. Here values are in [{image.min():g}, {image.max():g}]'
                )
            return image
        if broken := image.size - int(np.isfinite(image).sum()):
            raise ValueError(f'{name} must have finite values, got {broken} that are NaN or infinite: fill them first')
        low, high = self.value_range
        return ((image.astype(np.float32) - low) * (255 / (high - low))).clip(0, 255)

    def to_rgb(self, image: np.ndarray) -> np.ndarray:
        """Gives what is drawn of a loaded image, uint8 (H, W, 3) in RGB: the first three bands, or the first as grey.

        Each band is stretched from its 2nd to its 98th percentile.
        """
        shown = image[..., : 3 if len(self.bands) >= 3 else 1].astype(np.float32)
        low, high = np.percentile(shown, DRAWN, axis=(0, 1))
        stretched = (shown - low) * (255 / np.maximum(high - low, 1e-6))
        return np.repeat(stretched.round().clip(0, 255).astype(np.uint8), 3 // shown.shape[2], axis=2)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(bands={self.bands}, value_range={self.value_range})'


def _read_npy(file: BinaryIO, bands: int, max_pixels: int | None) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    if version not in NPY_HEADERS:
        raise ValueError(f'must be of .npy version 1.0 or 2.0, got {version}')
    shape, _, dtype = NPY_HEADERS[version](file)
    _check_pixels(shape[:2], max_pixels)
    if dtype.kind not in KINDS:
        raise ValueError(f'must hold numbers, got {dtype}')
    begin, end = file.tell(), file.seek(0, os.SEEK_END)
    if (needed := math.prod(shape) * dtype.itemsize) > end - begin:
        raise ValueError(f'the file is cut short: {needed} bytes must follow the header, got {end - begin}')
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _read_tiff(file: BinaryIO, bands: int, max_pixels: int | None) -> np.ndarray:
    """Gives the samples of the first page, or if that has one and more are wanted, one of each of the first pages."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        first = tiff.pages.first
        _check_pixels((first.imagelength, first.imagewidth), max_pixels)
        pages = [first] if first.samplesperpixel > 1 else tiff.pages[:bands]
        arrays = []
        for number, page in enumerate(pages):
            if (page.shaped[1:4], page.dtype) != ((1, *first.shaped[2:4]), first.dtype):
                raise ValueError(f'pages must be images like the first, got {page.shape} of {page.dtype} as {number}')
            planes = page.asarray(squeeze=False)[:, 0]  # (samples, H, W, samples); one of the two is 1
            arrays.append(planes[..., 0].transpose(1, 2, 0) if planes.shape[3] == 1 else planes[0])
        return np.concatenate(arrays, axis=2)


def _check_pixels(size: Sequence[int], max_pixels: int | None) -> None:
    if max_pixels is not None and math.prod(size) > max_pixels:
        raise ValueError(
            f'must have at most {max_pixels} pixels, got {"x".join(map(str, size[::-1]))}, which is '
            f'{math.prod(size)}: scale it down or cut it up, or raise max_pixels'
        )
