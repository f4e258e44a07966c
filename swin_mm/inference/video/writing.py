"""Writes videos that browsers play: H.264 in MP4, a frame at a time."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoints.whole_file import whole_file

TICKS = 90_000  # a second; the times of any usual rate of frames are whole numbers of these
BT709 = 1  # of H.273: the colours that players assume for a large video


class VideoWriter:
    """Writes ``path``, an MP4 with H.264, 8 bits and 4:2:0, whose index stands first, so it plays while it loads.

    The file is there once the video is closed; ``frames`` counts those in it. An odd width or height is grown by a
    pixel, for 4:2:0 needs even ones.
    """

    def __init__(self, path: Path):
        self.path = path
        self._open = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, ...] = ()
        self._last, self._step = -1, 0
        self.frames = 0

    def add(self, image: np.ndarray, time: float) -> None:
        """Adds a frame, uint8 (height, width, 3) in RGB, at ``time``, in seconds; all must have one size."""
        import av

        if self._container is None:
            self._begin(image)
        if image.shape != self._size:
            (height, width), (first_height, first_width) = image.shape[:2], self._size[:2]
            raise ValueError(
                f'frames must be {first_width}x{first_height}, as the first of the video, got {width}x{height}'
            )
        height, width = image.shape[:2]
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), 'rgb24')
        frame = frame.reformat(format='yuv420p', dst_colorspace='ITU709', dst_color_range='MPEG')
        before, self._last = self._last, max(round(time * TICKS), self._last + 1)
        self._step = self._last - before if before >= 0 else TICKS // 25
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        self._encode(frame)
        self.frames += 1

    def close(self) -> None:
        """Writes what the encoder holds back, and puts the file in its place; after an error there is none."""
        with self._open:
            if self._container is not None:
                self._encode(None)

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._step  # what the last frame lasts: as long as the one before
            self._container.mux(packet)

    def _begin(self, image: np.ndarray) -> None:
        import av

        partial = self._open.enter_context(whole_file(self.path))
        self._size = image.shape
        options = {'movflags': 'faststart'}
        self._container = self._open.enter_context(av.open(f'file:{partial}', 'w', format='mp4', options=options))
        self._stream = self._container.add_stream('libx264', rate=30, options={'preset': 'veryfast', 'crf': '23'})
        context = self._stream.codec_context  # of the rate only the level hangs: each frame has its time
        context.width, context.height = image.shape[1] + image.shape[1] % 2, image.shape[0] + image.shape[0] % 2
        context.pix_fmt = 'yuv420p'
        context.time_base = Fraction(1, TICKS)
        context.colorspace = context.color_primaries = context.color_trc = BT709
