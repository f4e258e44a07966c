"""Pictures of every odd kind: in files that hold one, and in files that do not."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from samples.pico_segmentor import picture

HEIGHT, WIDTH = 48, 64


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    if 'append_images' in options:
        options['append_images'] = [frame.copy() for frame in options['append_images']]
    image.copy().save(buffer, kind, **options)  # saving as JPEG leaves settings in the image that TIFF trips over
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header announces that size, and which holds nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(b'\0' * 1000)) + chunk(b'IEND', b'')


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(image, 'JPEG', quality=95, exif=exif)


def good(pixels: np.ndarray) -> dict[str, bytes]:
    """Files that hold ``pixels`` (48, 64, 3) in RGB, or what their kind leaves of them, by name."""
    image = Image.fromarray(pixels)
    gray16 = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    frames = dict(save_all=True, append_images=[image.rotate(180)] * 2)
    coded = cv2.imencode('.png', pixels[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    files = {
        'plain.jpg': encoded(image, 'JPEG', quality=95),
        'progressive.jpg': encoded(image, 'JPEG', progressive=True, quality=95),
        'several.jpg': encoded(image, 'MPO', quality=95, **frames),
        'trailing.jpg': encoded(image, 'JPEG', quality=95) + b'more after the end',
        'cmyk.jpg': encoded(image.convert('CMYK'), 'JPEG', quality=95),
        'gray.jpg': encoded(image.convert('L'), 'JPEG', quality=95),
        'plain.png': encoded(image, 'PNG'),
        'gray.png': encoded(image.convert('L'), 'PNG'),
        'bit.png': encoded(image.convert('1'), 'PNG'),
        'palette.png': encoded(image.convert('P'), 'PNG'),
        'gray_alpha.png': encoded(image.convert('LA'), 'PNG'),
        'alpha.png': encoded(image.convert('RGBA'), 'PNG'),
        'gray16.png': encoded(gray16, 'PNG'),
        'rgb16.png': coded,
        'animated.png': encoded(image, 'PNG', **frames),
        'animated.gif': encoded(image, 'GIF', **frames),
        'plain.webp': encoded(image, 'WEBP', lossless=True),
        'animated.webp': encoded(image, 'WEBP', lossless=True, **frames),
        'plain.bmp': encoded(image, 'BMP'),
        'plain.ppm': encoded(image, 'PPM'),
        'plain.tif': encoded(image, 'TIFF'),
        'pages.tif': encoded(image, 'TIFF', **frames),
        'cmyk.tif': encoded(image.convert('CMYK'), 'TIFF'),
        'gray16.tif': encoded(gray16, 'TIFF'),
        'wrong_suffix.png': encoded(image, 'JPEG', quality=95),
        'UPPER.JPG': encoded(image, 'JPEG', quality=95),
        'a name with spaces.png': encoded(image, 'PNG'),
        'Zürich_図.png': encoded(image, 'PNG'),
        'two\nlines.png': encoded(image, 'PNG'),
        '-dash.png': encoded(image, 'PNG'),
        '%s {0}.png': encoded(image, 'PNG'),
        'dots.a.b.png': encoded(image, 'PNG'),
        'sizes/1x1.png': encoded(image.resize((1, 1)), 'PNG'),
        'sizes/2x3.png': encoded(image.resize((2, 3)), 'PNG'),
        'sizes/10000x8.png': encoded(image.resize((10000, 8)), 'PNG'),
        'sizes/8x3000.png': encoded(image.resize((8, 3000)), 'PNG'),
    }
    return files | {f'exif{i}.jpg': turned(image, i) for i in range(1, 9)}


def bad(pixels: np.ndarray) -> dict[str, tuple[bytes, str]]:
    """Files that hold no picture or only a part of one, and words of what is said of them, by name."""
    image = Image.fromarray(pixels)
    jpeg, png, webp = (encoded(image, kind) for kind in ('JPEG', 'PNG', 'WEBP'))
    cut = 'not an image that OpenCV can decode'
    files = {f'cut{i}.jpg': (jpeg[:size], 'cut short') for i, size in enumerate((len(jpeg) - 1, len(jpeg) * 3 // 4))}
    files |= {f'cut_{size}.jpg': (jpeg[:size], cut) for size in (3, 20)}
    files |= {f'cut{i}.png': (png[:size], cut) for i, size in enumerate((7, 30, len(png) // 2, len(png) - 20))}
    return files | {
        'cut.webp': (webp[: len(webp) // 2], cut),
        'cut.tif': (encoded(image, 'TIFF')[:-2000], cut),
        'cut.gif': (encoded(image, 'GIF')[:500], cut),
        'page.jpg': (
            b'<!DOCTYPE html><html><body>404</body></html>',
            'damaged, or not that of JPEG, PNG',
        ),
        'empty.jpg': (b'', r'the file is empty \(0 bytes\)'),
        'zeros.png': (bytes(1000), cut),
        'float.tif': (encoded(image.convert('F'), 'TIFF'), r'TIFF of 64x48 pixels, mode F\).*pixels of 32 bits'),
        'int.tif': (encoded(image.convert('I'), 'TIFF'), 'mode I'),
        'icon.png': (encoded(image, 'ICO'), cut),
        'large.png': (png_of(9000, 9000), 'at most 64000000 pixels, got 9000x9000, which is 81000000'),
        'bomb.png': (png_of(60000, 60000), 'exceeds limit of 178956970 pixels'),
        'bomb_wide.png': (png_of(2**31 - 1, 2**31 - 1), 'exceeds limit'),
        'no_pixels.png': (png_of(0, 5), cut),
    }


def write(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """The files of both kinds in ``folder``: those that hold a picture, and those that do not with what is said."""
    pixels = picture(HEIGHT, WIDTH)
    (folder / 'sizes').mkdir(parents=True)
    for name, data in good(pixels).items():
        (folder / name).write_bytes(data)
    refused = {}
    for name, (data, words) in bad(pixels).items():
        (folder / name).write_bytes(data)
        refused[folder / name] = words
    (folder / 'folder.jpg').mkdir()
    (folder / 'broken_link.png').symlink_to('gone.png')
    os.mkfifo(folder / 'pipe.png')
    refused |= {
        folder / 'folder.jpg': 'a folder, not an image',
        folder / 'broken_link.png': 'a link to a file that is not there, gone.png',
        folder / 'pipe.png': 'not a regular file',
    }
    return [folder / name for name in good(pixels)], refused
