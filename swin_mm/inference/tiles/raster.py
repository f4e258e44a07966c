"""Reads regions of an image file, through GDAL: a GeoTIFF, a pyramid or any other image is never whole in memory."""

import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ...errors import one_line
from ..images import PictureReader, Reader, open_image
from .grid import Tile

CACHE = 128  # MB of decoded blocks that GDAL keeps; its own choice is a twentieth of the machine's memory
# No driver of GDAL besides these sees what a file holds: some read addresses, or other files that one names.
DRIVERS = {
    b'II*\0': 'GTiff',
    b'MM\0*': 'GTiff',
    b'II+\0': 'GTiff',
    b'MM\0+': 'GTiff',
    b'\xff\xd8\xff': 'JPEG',
    b'\x89PNG': 'PNG',
    b'BM': 'BMP',
    b'RIFF': 'WEBP',
    b'\0\0\0\x0cjP  ': 'JP2OpenJPEG',
}
UPRIGHT = (None, '1', '1 (top-left)', 'top-left')


class Raster:
    """An open image file; ``height`` and ``width`` in pixels, ``is_geographic`` if it says where on Earth they are.

    ``reader`` is the model's: a `PictureReader` gets uint8 (height, width, 3) in BGR as it reads files itself, one of
    bands gets them as they are. Raises OSError or ValueError with the path and the reason, ImportError without
    rasterio.
    """

    def __init__(self, path: str | os.PathLike, reader: Reader):
        try:
            import rasterio
            from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
        except ImportError as error:
            raise ImportError("tiles need rasterio: pip install 'swin-mm[tiles]'") from error
        self.path, self._reader, self.as_picture = Path(path), reader, isinstance(reader, PictureReader)
        with open_image(path) as file:
            begin = file.read(8)
        driver = next((DRIVERS[magic] for magic in DRIVERS if begin.startswith(magic)), None)
        if driver is None:
            raise ValueError(
                f'{path}: must be TIFF, JPEG, PNG, BMP, WebP or JPEG 2000, got one that begins with {begin!r}'
            )
        with ExitStack() as opened:  # what is refused is closed again
            opened.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_DISABLE_READDIR_ON_OPEN='EMPTY_DIR'))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore', NotGeoreferencedWarning)
                    self.file = opened.enter_context(rasterio.open(self.path.absolute(), driver=driver))
            except RasterioIOError as error:
                raise ValueError(f'{path}: not an image that GDAL can read by region: {one_line(error)}') from error
            self.height, self.width = self.file.height, self.file.width
            self.is_geographic = self.file.crs is not None
            self._palette = self.file.colormap(1) if self.file.colorinterp[0].name == 'palette' else None
            self._check()
            self._opened = opened.pop_all()

    def __enter__(self) -> 'Raster':
        return self

    def __exit__(self, *_: type[BaseException] | TracebackType | BaseException | None) -> None:
        self._opened.close()

    def read(self, tile: Tile) -> np.ndarray:
        """Gives the pixels of a tile; raises ValueError with the path and the place if they cannot be decoded."""
        from rasterio.windows import Window

        window = Window(tile.left, tile.top, tile.right - tile.left, tile.bottom - tile.top)
        return self._decode(self.name_of(tile), window=window)

    def overview(self, longest: int) -> np.ndarray:
        """Gives the whole image in RGB, uint8, its longer side ``longest`` pixels or its own, if that is less."""
        scale = min(1, longest / max(self.height, self.width))
        size = [max(1, round(side * scale)) for side in (self.height, self.width)]
        whole = self._decode(self.path, out_shape=(len(self._bands()), *size))
        return np.ascontiguousarray(self._reader.to_rgb(self._reader.check(whole, str(self.path))))

    def _decode(self, name: str | Path, **part: Any) -> np.ndarray:
        from rasterio.errors import RasterioError

        try:
            image = self.file.read(self._bands(), **part).transpose(1, 2, 0)
        except RasterioError as error:
            raise ValueError(f'{name}: damaged: {one_line(error)}') from error
        if not self.as_picture:
            return image
        if self._palette:
            colours = np.zeros((256, 4), np.uint8)
            colours[list(self._palette)] = list(self._palette.values())
            image = colours[image[..., 0], :3]
        if image.dtype == np.uint16:
            image = (image >> 8).astype(np.uint8)
        return np.ascontiguousarray(image[..., ::-1] if image.shape[2] == 3 else np.repeat(image, 3, axis=2))

    def name_of(self, tile: Tile) -> str:
        """Names a tile in messages."""
        return f'{self.path}, pixels {tile.left},{tile.top} to {tile.right},{tile.bottom}'

    def to_earth(self, geometry: dict[str, Any]) -> dict[str, Any]:
        """Gives a GeoJSON geometry in pixels as one in longitude and latitude (WGS 84), as the format wants it."""
        from rasterio.warp import transform_geom

        rings = [[self.file.transform @ point for point in ring] for ring in geometry['coordinates']]
        return transform_geom(self.file.crs, 'EPSG:4326', {'type': 'Polygon', 'coordinates': rings}, precision=8)

    def _bands(self) -> list[int]:
        if not self.as_picture:
            return list(self.file.indexes)
        return [1, 2, 3] if self.file.count >= 3 else [1]

    def _check(self) -> None:
        if not self.as_picture:
            return
        kinds = {self.file.dtypes[band - 1] for band in self._bands()}
        if not kinds <= {'uint8', 'uint16'}:
            raise ValueError(
                f'{self.path}: must have 8 or 16 bits a sample for this model, got {", ".join(sorted(kinds))}: '
                'scale it to 8 bits, or train a model on its bands (swin_mm.LoadBands)'
            )
        turned = self.file.tags(ns='EXIF').get('EXIF_Orientation') or self.file.tags().get('EXIF_Orientation')
        if turned not in UPRIGHT:
            raise ValueError(f'{self.path}: its EXIF tag says that it is turned ({turned}): save it upright first')
