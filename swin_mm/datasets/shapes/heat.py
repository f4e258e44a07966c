"""Adds a fourth band to an image of shapes: heat, in which alone hot shapes differ from cold ones."""

import numpy as np

from .draw import Instance, smooth_noise

CLASSES = ('cold', 'hot')
PALETTE = [(86, 180, 233), (213, 94, 0)]  # of Okabe and Ito's
HIGHEST = 4095  # the values have 12 bits, as those of many cameras
GROUND, HOT, NOISE = (20.0, 110.0), 90.0, 5.0  # of 255: cool to warm ground, what a hot shape adds, deviation


def add_heat(
    rng: np.random.Generator, image: np.ndarray, instances: list[Instance]
) -> tuple[np.ndarray, list[Instance]]:
    """Gives (H, W, 4) uint16, red, green, blue and heat in [0, `HIGHEST`], and the instances as cold or hot.

    Half of the shapes are hot, whatever their outline and colour. Cold ones do not show in the heat, and the ground is
    warmer in some places than in others: neither the colours nor the heat alone are enough.
    """
    height, width = image.shape[:2]
    noise = smooth_noise(rng, height, width, cells=4)
    heat = GROUND[0] + noise * (GROUND[1] - GROUND[0]) + NOISE * rng.standard_normal(noise.shape)
    hot = rng.random(len(instances)) < 0.5
    for instance, is_hot in zip(instances, hot, strict=True):
        heat[instance.mask] += HOT * is_hot
    bands = np.dstack([image, heat]).clip(0, 255) * (HIGHEST / 255)
    labelled = [instance._replace(label=int(is_hot)) for instance, is_hot in zip(instances, hot, strict=True)]
    return bands.round().astype(np.uint16), labelled
