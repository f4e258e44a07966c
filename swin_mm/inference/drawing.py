"""Draws boxes, masks, segments, classes and names into images, with OpenCV and Pillow."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import PreflightError

SCORE = 0.3
OPACITY = 0.5
Palette = str | Sequence[Sequence[int]] | None


def check_display() -> None:
    """Raises PreflightError where no window can open: mmengine would wait for a key press in one forever."""
    from matplotlib import pyplot

    if pyplot.get_backend().lower() == 'agg':  # what matplotlib falls back to
        raise PreflightError('--show needs a display and a GUI toolkit for matplotlib, found none: have files written')


def show(name: str, image: np.ndarray) -> None:
    """Shows ``image``, in RGB, in the window of all images, until a key is pressed."""
    _window().show(image, win_name=name, wait_time=0)


@functools.cache
def _window() -> Any:
    from mmengine.visualization import Visualizer

    return Visualizer()


def class_colours(palette: Palette, number: int) -> np.ndarray:
    """Gives a colour for each of ``number`` classes: uint8 (number, 3) in RGB.

    ``palette`` is a list of colours, or 'coco', 'voc', 'citys' or 'random' as in mmdet; None is 'random'. Raises
    ValueError if it has too few.
    """
    if palette is None or palette == 'random':
        return np.random.RandomState(42).randint(0, 256, (number, 3)).astype(np.uint8)  # as mmdet draws them
    if isinstance(palette, str):
        from mmdet.visualization.palette import get_palette

        colours = get_palette(palette, 0)
    else:
        colours = palette
    if len(colours) < number:
        given = palette if isinstance(palette, str) else f'a list of {len(palette)}'
        raise ValueError(f'palette must have a colour for each of {number} classes, got {given}')
    return np.array(colours[:number], np.uint8).reshape(number, 3)


def draw_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray | None,
    texts: Sequence[str],
    colours: np.ndarray,
    opacity: float = OPACITY,
) -> np.ndarray:
    """Gives a copy of ``image``, uint8 (height, width, 3) in RGB, with N objects drawn in, the first one on top.

    ``boxes`` (N, 4) as (x1, y1, x2, y2) in pixels, ``masks`` (N, height, width) or None, ``texts`` and ``colours`` one
    an object.
    """
    drawn = np.array(image, order='C')
    height, width = drawn.shape[:2]
    line = max(1, round((height + width) / 500))
    corners = np.clip(np.nan_to_num(boxes), 0, [width - 1, height - 1] * 2).round().astype(int).tolist()
    for i in reversed(range(len(corners))):
        x1, y1, x2, y2 = corners[i]
        if masks is not None:
            _paint(drawn, masks[i], colours[i], opacity)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), colours[i].tolist(), line)
    places = [(x1 + line, y1 + line) for x1, y1, _, _ in corners]
    return _write(drawn, places[::-1], texts[::-1], colours[::-1])


def draw_regions(
    image: np.ndarray, regions: np.ndarray, texts: Sequence[str], colours: np.ndarray, opacity: float = OPACITY
) -> np.ndarray:
    """Gives a copy of ``image`` as in `draw_objects` in the colours of its ``regions``.

    ``regions`` (height, width) are indices of ``colours`` (S, 3), -1 for none. ``texts``: of each region the name,
    which goes to the middle of its largest piece, or '' for none.
    """
    mixed = cv2.addWeighted(np.ascontiguousarray(image), 1 - opacity, colours[regions], opacity, 0)
    drawn = np.where((regions < 0)[..., None], image, mixed)
    named = [i for i in np.unique(regions).tolist() if i >= 0 and texts[i]]
    places = [_middle(regions == i) for i in named]
    return _write(drawn, places, [texts[i] for i in named], colours[named]) if named else drawn


def _paint(image: np.ndarray, mask: np.ndarray, colour: np.ndarray, opacity: float) -> None:
    """Mixes ``colour`` into ``image`` where ``mask`` is true, with a white outline."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside, region = mask[part], image[part]
    mixed = cv2.addWeighted(region, 1 - opacity, np.full_like(region, colour), opacity, 0)
    np.copyto(region, mixed, where=inside[..., None])
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, outlines, -1, (255, 255, 255), 1, offset=(int(columns[0]), int(rows[0])))


def _middle(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) in the middle of the largest piece of ``mask``."""
    _, _, statistics, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    x, y = centroids[1 + statistics[1:, cv2.CC_STAT_AREA].argmax()]
    return int(x), int(y)


def _write(image: np.ndarray, places: Sequence[tuple[int, int]], texts: Sequence[str], colours: np.ndarray):
    """Writes each text on its colour, from its place (x, y) to the right and down, all of it inside if it fits."""
    if not len(texts):
        return image
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    font = _font(int(np.clip(min(image.shape[:2]) / 40, 9, 40)))
    for place, text, colour in zip(places, texts, colours.tolist(), strict=True):
        _, _, *size = pen.textbbox((0, 0), text, font)
        x, y = (max(0, min(start, side - end - 2)) for start, end, side in zip(place, size, canvas.size, strict=True))
        pen.rectangle((x, y, x + size[0] + 2, y + size[1] + 1), fill=tuple(colour))
        bright = np.dot(colour, (0.299, 0.587, 0.114)) > 128  # ITU-R BT.601's luma
        pen.text((x + 1, y), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)
    return np.array(canvas)  # which may be written to


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib, which comes with mmengine, and has the letters of most alphabets."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), 'fonts/ttf/DejaVuSans.ttf'), size)
