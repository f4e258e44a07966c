"""Made-up videos of coloured squares that move, and where the squares are."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

COLOURS = np.array([[230, 60, 40], [60, 210, 70], [70, 90, 240], [235, 210, 50], [200, 80, 220]], np.uint8)  # RGB
SIDE = 24


def boxes_at(i: int, number: int, width: int, height: int) -> np.ndarray:
    """(number, 4) as (x1, y1, x2, y2): each square moves a pixel or two a frame, in a lane of its own, and turns."""
    lane = (height - SIDE) / max(number - 1, 1)
    speed = 1 + np.arange(number) % 2
    way = width - SIDE
    x = np.abs((np.arange(number) * 37 + i * speed + way) % (2 * way) - way)
    y = np.arange(number) * lane
    return np.stack([x, y, x + SIDE, y + SIDE], axis=1).astype(np.float32)


def frames(count: int, number: int = 3, width: int = 160, height: int = 120) -> Iterator[np.ndarray]:
    """Yields uint8 (height, width, 3) in RGB."""
    for i in range(count):
        image = np.full((height, width, 3), (90, 95, 100), np.uint8)
        for (x1, y1, x2, y2), colour in zip(boxes_at(i, number, width, height).astype(int), COLOURS, strict=False):
            image[y1:y2, x1:x2] = colour
        yield image


def write_video(path: Path, images, *, rate: int = 25, codec: str = 'libx264', times=None, turned: int = 0, sound=0.0):
    """Writes RGB images; ``times`` in milliseconds, ``turned`` in degrees for players, ``sound`` in seconds."""
    import av

    with av.open(str(path), 'w', options={'movflags': 'faststart'} if path.suffix in ('.mp4', '.mov') else {}) as file:
        images = iter(images)
        first = next(images)
        video = file.add_stream(codec, rate=1000 if times else rate)
        video.height, video.width = first.shape[:2]
        video.pix_fmt = 'yuv420p'
        if turned:
            video.set_display_rotation(turned)
        if sound:
            file.mux(sound_of(file, sound))
        for i, image in enumerate([first, *images]):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            frame.pts = times[i] if times else i
            frame.time_base = Fraction(1, 1000 if times else rate)
            file.mux(video.encode(frame))
        file.mux(video.encode())
    return path


def sound_of(file, seconds: float) -> list:
    import av

    stream = file.add_stream('aac', rate=16000, layout='mono')
    packets = []
    for start in range(0, int(seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        frame.sample_rate, frame.pts = 16000, start
        packets += stream.encode(frame)
    return packets + stream.encode()
