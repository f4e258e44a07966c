"""Reads videos frame by frame with PyAV, the libraries of FFmpeg.

Not with OpenCV: a file that is cut short or damaged looks to its caller like one that ends there, and the build that
pip installs cannot write H.264, so PyAV is needed in any case.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import PreflightError
from ..images import MAX_PIXELS, check_file
from ..prepared import NamedImage
from .frames import Frame

SUFFIXES = ('.mp4', '.mov', '.m4v', '.mkv', '.webm', '.avi', '.mpg', '.mpeg', '.ts', '.m2ts', '.wmv', '.flv', '.3gp')
FORMATS = 'mov,matroska,avi,mpegts,mpeg,mpegvideo,asf,flv'  # no playlists, which name other files and addresses
NEEDED = ('av', 'supervision', 'trackers')
MISSING = 0.5  # seconds before the announced end of a file that may lack


def check_installed(name: str | os.PathLike) -> None:
    """Raises PreflightError if a package of the extra `video` is not installed, which read, track, draw and write."""
    if missing := [package for package in NEEDED if importlib.util.find_spec(package) is None]:
        raise PreflightError(f"{name}: videos need {', '.join(missing)}: pip install 'swin-mm[video]'")


def read_video(path: str | os.PathLike, every: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator[Frame]:
    """Yields each ``every``-th frame of a video, upright by its rotation, with its own time; uint8 (H, W, 3) in BGR.

    A file that cannot be opened, is damaged in the middle or ends before its announced end gives the frames before, and
    at last an exception with the path and the reason. Sound is not read.
    """
    import av

    path, number, time = Path(path), -1, 0.0
    try:
        check_file(path)
        # The prefix keeps FFmpeg from taking a name with a colon for a protocol.
        with av.open(f'file:{path}', options={'format_whitelist': FORMATS}) as container:
            for number, (time, frame) in enumerate(_decoded(container, path, max_pixels)):
                if number % every == 0:
                    yield Frame(number, time, NamedImage(f'{path} frame {number}', _upright(frame)))
    except av.FFmpegError as error:
        where = f'damaged after {number + 1} frames' if number >= 0 else 'not a video that FFmpeg can read'
        yield Frame(number + 1, time, ValueError(f'{path}: {where}: {error.strerror}'))
    except (OSError, ValueError) as error:
        yield Frame(number + 1, time, error)


def _decoded(container: Any, path: Path, max_pixels: int) -> Iterator[tuple[float, Any]]:
    """Yields PyAV's frames with their times; raises ValueError for a file that is no video or ends too early."""
    video = _video_stream(container, path, max_pixels)
    number, end, step = 0, 0.0, 1 / float(video.average_rate or 25)
    first = time = None
    for packet in container.demux():
        if packet.pts is not None:  # of any stream: sound may last longer than images
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is not video:
            continue
        for frame in packet.decode():
            if frame.is_corrupt and first is None:  # a recording may begin between two whole frames
                continue
            if frame.is_corrupt:
                raise ValueError(f'{path}: damaged after {number} frames')
            if frame.time is not None and (time is None or frame.time > time):
                time = frame.time
            else:  # a missing or wrong time: it must grow
                time = (time or 0.0) + step
            first = time if first is None else first
            yield time - first, frame
            number += 1
    if number == 0:
        raise ValueError(f'{path}: holds no frame that can be decoded')
    announced = ((container.duration or 0) + (container.start_time or 0)) / 1e6  # both in microseconds
    if end + step + MISSING < announced:  # older FFmpeg does not say how long a packet lasts
        raise ValueError(f'{path}: the file is cut short: it ends at {end:.1f} s of {announced:.1f} s')


def _video_stream(container: Any, path: Path, max_pixels: int) -> Any:
    import av

    streams = [one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise ValueError(f'{path}: must hold a video stream, got only {_kinds(container)}')
    video = streams[0]
    width, height = video.width, video.height
    if width * height > max_pixels:
        raise ValueError(f'{path}: must have at most {max_pixels} pixels, got {width}x{height}: raise max_pixels')
    video.thread_type = 'AUTO'
    return video


def _kinds(container: Any) -> str:
    return ', '.join(sorted({one.type for one in container.streams})) or 'no stream'


def _upright(frame: Any) -> np.ndarray:
    """The pixels of a frame, turned as its display matrix says: by a multiple of 90 degrees, counter-clockwise."""
    pixels = frame.to_ndarray(format='bgr24')
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
