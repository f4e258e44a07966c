"""Draws samples of a data set with their annotations, as one picture and as a page."""

import base64
import functools
import html
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .browsing import IGNORED, IGNORED_PIXEL, Sample

OPACITY = 0.4  # of masks and label maps
GREY = (128, 128, 128)  # of what is ignored
TILE, PAGE = 400, 720  # pixels: the longer side in the sheet and at least on the page
CAPTION, LINE = 22, 18  # pixels: a line of text, and each further one
COLUMNS = 4
LETTERS = 36  # names of classes are written in this part of an image's longer side
NAMED = 0.005  # share of an image from which a class of a label map is named
STYLE = (
    'body{font:15px sans-serif;margin:clamp(1em,4vw,2em);background:#fff;overflow-wrap:anywhere}'
    'main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,30em),1fr));gap:1.5em}'
    'figure{margin:0}img{width:100%;display:block}figcaption{margin-top:.3em}'
)


def draw(sample: Sample, classes: Sequence[str], palette: np.ndarray, side: int) -> Image.Image:
    """Draws boxes, masks or the label map into the image, scaled so that its longer side is ``side`` pixels.

    ``palette`` (classes, 3) has a colour in RGB for each of ``classes``.
    """
    height, width = sample.pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    pixels = np.asarray(Image.fromarray(sample.pixels).resize(size, method)).copy()
    colours = [GREY if label == IGNORED else tuple(map(int, palette[label])) for label in sample.labels]
    for mask, colour in zip(sample.masks if sample.masks is not None else (), colours, strict=False):
        _blend(pixels, _resized(mask.astype(np.uint8), size) > 0, colour)
    if sample.label_map is not None:
        label_map = _resized(sample.label_map.astype(np.int32), size)
        present = [label for label in np.unique(label_map) if 0 <= label < len(classes)]
        for label in present:
            _blend(pixels, label_map == label, tuple(map(int, palette[label])))
    image = Image.fromarray(pixels)
    pen, letters = ImageDraw.Draw(image), max(side // LETTERS, 12)
    for box, label, colour in zip(sample.boxes * scale, sample.labels, colours, strict=True):
        corners = [round(float(value)) for value in box]
        pen.rectangle(
            (corners[0], corners[1], max(corners[2], corners[0]), max(corners[3], corners[1])), None, colour, 2
        )
        if name := 'ignored' if label == IGNORED else classes[label]:
            _write(pen, (corners[0], corners[1]), name, colour, letters)
    if sample.label_map is not None:
        for label in present:
            if (region := label_map == label).mean() >= NAMED:
                _write(pen, _inside(region), classes[label], tuple(map(int, palette[label])), letters)
    return image


def write_sheet(path: Path, samples: Sequence[Sample], classes: Sequence[str], palette: np.ndarray) -> Path:
    """Draws all ``samples`` with their names into one picture; gives its path."""
    tiles = [(_shortened(sample), draw(sample, classes, palette, TILE)) for sample in samples]
    return write_tiles(path, tiles, COLUMNS)


def write_tiles(path: Path, tiles: Sequence[tuple[str, Image.Image]], columns: int) -> Path:
    """Puts images of at most TILE pixels a side, each below its caption, into one picture; gives its path.

    A caption has one line or more, all captions equally many.
    """
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    caption = CAPTION + LINE * tiles[0][0].count('\n')
    sheet = Image.new('RGB', (columns * (TILE + 8) + 8, rows * (TILE + caption + 8) + 8), 'white')
    pen = ImageDraw.Draw(sheet)
    for i, (text, tile) in enumerate(tiles):
        x, y = (i % columns) * (TILE + 8) + 8, (i // columns) * (TILE + caption + 8) + 8
        pen.text((x, y), text, 'black', _font(13))
        sheet.paste(tile, (x, y + caption))
    sheet.save(path)
    return path


def write_page(path: Path, samples: Sequence[Sample], classes: Sequence[str], palette: np.ndarray, title: str) -> Path:
    """Writes the page of ``samples``, whole in one file: images inlined, no script; gives its path."""
    figures = []
    for sample in samples:
        file = BytesIO()
        draw(sample, classes, palette, max(PAGE, *sample.pixels.shape[:2])).save(file, 'JPEG', quality=90)
        data = base64.b64encode(file.getvalue()).decode()
        text = html.escape(f'{_shortened(sample)}: {summary(sample, classes)}')
        figures.append(
            f'<figure><img src="data:image/jpeg;base64,{data}" alt=""><figcaption>{text}</figcaption></figure>'
        )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f'<title>{html.escape(title)}</title><style>{STYLE}</style>'
    page = f'<!DOCTYPE html>\n<html><head>{head}</head><body>\n<h1>{html.escape(title)}</h1>\n<main>\n'
    path.write_text(page + '\n'.join(figures) + '\n</main></body></html>\n', encoding='utf-8')
    return path


def summary(sample: Sample, classes: Sequence[str]) -> str:
    """Says how many objects of each class a sample has, or the share of pixels of each."""
    if sample.label_map is not None:
        labels, counts = np.unique(sample.label_map, return_counts=True)
        names = {IGNORED_PIXEL: 'ignored'} | dict(enumerate(classes))
        return ', '.join(
            f'{names.get(int(label), f"label {label}")} {100 * count / sample.label_map.size:.1f} %'
            for label, count in zip(labels, counts, strict=True)
        )
    labels, counts = np.unique(sample.labels, return_counts=True)
    return (
        ', '.join(
            f'{count} {"ignored" if label == IGNORED else classes[label]}'
            for label, count in zip(labels, counts, strict=True)
        )
        or 'no objects'
    )


def _shortened(sample: Sample) -> str:
    height, width = sample.pixels.shape[:2]
    name = sample.name if len(sample.name) <= 36 else f'...{sample.name[-33:]}'
    return f'{name}, {width} x {height}'


def _blend(pixels: np.ndarray, region: np.ndarray, colour: tuple[int, ...]) -> None:
    pixels[region] = (pixels[region] * (1 - OPACITY) + np.array(colour) * OPACITY).round().astype(np.uint8)


def _resized(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)


def _inside(region: np.ndarray) -> tuple[int, int]:
    """The place (x, y) in a region that is farthest from its border."""
    distance = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(x), int(y)


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: tuple[int, ...], letters: int) -> None:
    """Writes ``text`` on a patch of ``colour`` inside of the image, its upper left corner at ``place`` if it fits."""
    _, _, right, bottom = pen.textbbox((0, 0), text, _font(letters))
    x = max(min(place[0], pen.im.size[0] - right - 4), 0)
    y = max(min(place[1], pen.im.size[1] - bottom - 3), 0)
    pen.rectangle((x, y, x + right + 3, y + bottom + 2), colour)
    pen.text((x + 2, y), text, 'black' if sum(colour) > 380 else 'white', _font(letters))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), 'fonts/ttf/DejaVuSans.ttf')), size)
