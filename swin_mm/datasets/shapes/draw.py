"""Draws images of coloured shapes on textured ground, with the visible pixels of every shape.

An image depends on a random generator and on nothing else. The size of a shape is the square root of its area. Size and
rotation are drawn without regard to the class. A class has a typical hue, as things in photographs have, but classes
with neighbouring hues overlap. A few hundred training steps learn the hues; where two classes share a hue, only the
outline decides.
"""

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDES = (112, 160)  # pixels, both ends included; most of these are not multiples of 32, so padding occurs
SIZES = (22.0, 48.0)  # pixels, square root of the area
COUNTS = (2, 5)  # shapes per image, both ends included
HUE_SPREAD = 0.045  # turns of the colour wheel, standard deviation around a class's typical hue; these lie 0.2 apart
TILT = np.pi / 6  # radians, the largest turn of a shape from upright, either way
MIN_VISIBLE = 0.65  # share of a shape's area inside the image and uncovered: it must still show the class
SUPERSAMPLING = 4


class Instance(NamedTuple):
    """One annotated thing: ``mask`` (H, W) bool holds its visible pixels; ``area`` also counts its hidden pixels."""

    label: int
    mask: np.ndarray
    area: float
    crowd: bool = False


def _ring(*radii: float, points: int, start: float = -np.pi / 2) -> np.ndarray:
    """Gives ``(points, 2)`` corners at equal angles around the origin, at distances that repeat ``radii``.

    ``start`` is the angle of the first corner in radians; the default points upwards.
    """
    angle = np.arange(points) * 2 * np.pi / points + start
    return np.resize(radii, points)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _cross() -> np.ndarray:
    """Gives the ``(12, 2)`` corners of a plus sign whose arms are a third of its width."""
    arm = np.array([[3, -1], [3, 1], [1, 1]])
    quarter = np.array([[0, 1], [-1, 0]])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter, k) for k in range(4)])


def _unit_area(corners: np.ndarray) -> np.ndarray:
    """Scales an outline to an area of 1 (shoelace formula)."""
    x, y = corners.T
    return corners / np.sqrt(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


OUTLINES = {
    'circle': _unit_area(_ring(1, points=64)),
    'square': _unit_area(_ring(1, points=4, start=np.pi / 4)),
    'triangle': _unit_area(_ring(1, points=3)),
    'star': _unit_area(_ring(1, 0.42, points=10)),
    'cross': _unit_area(_cross()),
}
CLASSES = tuple(OUTLINES)


def visible_polygons(mask: np.ndarray) -> list[np.ndarray] | None:
    """Gives polygons ``(n, 2)`` in pixels that COCO rasterises to exactly this mask; None if the mask has a hole.

    There is one polygon per connected part. Its contour is traced on the mask doubled in size, so it runs a quarter of
    a pixel inside the pixels' outer edges. On the mask itself it would run through the pixels' centres, and rasterising
    would lose the right and lower rims.
    """
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    has_parent = tree[0, :, 3] >= 0
    return None if has_parent.any() else [(contour[:, 0] + 0.5) / 2 for contour in contours]


def draw_image(rng: np.random.Generator, crowd: bool = False) -> tuple[np.ndarray, list[Instance]]:
    """Draws an RGB image ``(H, W, 3)`` uint8 and its instances, the lowest first; with ``crowd`` that is a cluster.

    Every shape keeps ``MIN_VISIBLE`` of its area in sight, and none lies inside another: COCO polygons have no holes.
    """
    height, width = rng.integers(SIDES[0], SIDES[1] + 1, size=2)
    image = _draw_ground(rng, height, width)
    instances = [_draw_cluster(rng, image)] if crowd else []
    for label in rng.integers(len(CLASSES), size=rng.integers(COUNTS[0], COUNTS[1] + 1)):
        for _attempt in range(50):
            size = rng.uniform(*SIZES)
            centre = rng.uniform((0, 0), (width, height))
            cover = _rasterise_shape(rng, label, size, centre, image.shape)
            placed = [below._replace(mask=below.mask & (cover < 0.5)) for below in instances]
            placed.append(Instance(int(label), cover >= 0.5, size**2))
            if all(_is_recognisable(instance) for instance in placed):
                instances = placed
                _paint(rng, image, cover, label)
                break
    return _photograph(rng, image), instances


def _is_recognisable(instance: Instance) -> bool:
    enough = instance.mask.sum() >= MIN_VISIBLE * instance.area
    return bool(enough) and (instance.crowd or visible_polygons(instance.mask) is not None)


def _rasterise_shape(
    rng: np.random.Generator, label: int, size: float, centre: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Gives the share ``(H, W)`` of every pixel that a randomly turned shape covers.

    ``centre`` (x, y) and ``size`` are in pixels; ``shape`` is the image's.
    """
    angle = rng.uniform(-TILT, TILT)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = (OUTLINES[CLASSES[label]] @ turn * size + centre) * SUPERSAMPLING - 0.5
    canvas = Image.new('L', (shape[1] * SUPERSAMPLING, shape[0] * SUPERSAMPLING))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / 255


def _draw_cluster(rng: np.random.Generator, image: np.ndarray) -> Instance:
    """Paints a crowd on ``image``, in place: a dozen small shapes of one class."""
    label = int(rng.integers(len(CLASSES)))
    middle = rng.uniform(0.3, 0.7, size=2) * image.shape[1::-1]
    mask = np.zeros(image.shape[:2], dtype=bool)
    for row, column in np.ndindex(3, 4):
        centre = middle + (np.array([column - 1.5, row - 1]) + rng.uniform(-0.25, 0.25, size=2)) * 14
        cover = _rasterise_shape(rng, label, rng.uniform(8, 11), centre, image.shape)
        _paint(rng, image, cover, label)
        mask |= cover >= 0.5
    return Instance(label, mask, float(mask.sum()), crowd=True)


def _paint(rng: np.random.Generator, image: np.ndarray, cover: np.ndarray, label: int) -> None:
    """Paints the covered pixels of ``image``, in place, in a vivid shaded colour unlike those beneath and around."""
    under = image[cv2.dilate(cover, np.ones((5, 5))) >= 0.5]
    hue = rng.normal(label / len(CLASSES), HUE_SPREAD, size=(8, 1)) % 1
    colours = _colours(rng, hue, saturation=(0.4, 0.95), value=(0.45, 1.0))
    contrast = np.linalg.norm(under[:, None] - colours, axis=2)
    colour = colours[contrast.min(axis=0).argmax()]
    shade = 1 + rng.uniform(0.1, 0.5) * (_ramp(rng, *cover.shape) - 0.5)
    image += cover[:, :, None] * (colour * shade[:, :, None] - image)


def _draw_ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws ``(H, W, 3)`` float32, about [0, 255]: slope, stripes or noise of two pale colours, grain of a third."""
    first, second, third = _colours(rng, rng.random((3, 1)), saturation=(0.05, 0.4), value=(0.3, 1.0))
    slope = _ramp(rng, height, width)
    stripes = 0.5 + 0.5 * np.sin(rng.uniform(15, 60) * _ramp(rng, height, width))
    noise = smooth_noise(rng, height, width, cells=4)
    texture = (slope, stripes, noise)[rng.integers(3)]
    image = first + texture[:, :, None] * (second - first)
    grain = smooth_noise(rng, height, width, cells=int(rng.integers(8, 40)))
    image += rng.uniform(0.1, 0.5) * grain[:, :, None] * (third - image)
    return image.astype(np.float32)


def _ramp(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Gives ``(H, W)`` values that rise from 0 to 1 in a random direction."""
    angle = rng.uniform(-TILT, TILT)
    ramp = np.arange(width) * np.cos(angle) + np.arange(height)[:, None] * np.sin(angle)
    return (ramp - ramp.min()) / np.ptp(ramp)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Gives ``(H, W)`` random values, mostly in [0, 1], interpolated from a grid of ``cells`` by ``cells``."""
    grid = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def _colours(
    rng: np.random.Generator, hue: np.ndarray, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """Draws ``(n, 3)`` RGB colours in [0, 255] of the hues ``(n, 1)``, which are in turns of the colour wheel."""
    wheel = np.clip(np.abs((hue * 6 + [0, 4, 2]) % 6 - 3) - 1, 0, 1)
    paleness = 1 - rng.uniform(*saturation, size=hue.shape)
    return 255 * rng.uniform(*value, size=hue.shape) * (wheel + paleness * (1 - wheel))


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Makes the image uint8, slightly out of focus and noisy."""
    sharp = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8))), dtype=np.float32)
    noise = rng.uniform(0, 8) * rng.standard_normal(blurred.shape, dtype=np.float32)
    return (blurred + noise).round().clip(0, 255).astype(np.uint8)
