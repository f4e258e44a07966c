"""Turns the results of a clip's frames into tracks and a video; a sink of `results_of`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..results import Detections
from .tracking import Tracker
from .writing import VideoWriter


class ClipWriter:
    """Writes ``FOLDER/CLIP.mp4`` for each clip, while frames of it follow each other, and gives its objects tracks.

    ``draw(pixels, found)`` gives a frame in RGB; None writes no video. ``score``: an object begins a track from this
    score on.
    """

    def __init__(self, folder: Path, draw: Callable[[np.ndarray, Any], np.ndarray] | None, score: float):
        self.folder, self.draw, self.score = folder, draw, score
        self._clip: str | None = None
        self._tracker: Tracker | None = None
        self._video: VideoWriter | None = None

    def turn_to(self, clip: str | None) -> list[Path]:
        """Begins a clip, or none, if it is another one; gives the file of the clip before, which is whole now."""
        if clip == self._clip:
            return []
        finished, self._video = self._video, None
        self._clip, self._tracker = clip, None
        if clip is not None and self.draw is not None:
            self._video = VideoWriter(self.folder / f'{clip}.mp4')
        if finished is None:
            return []
        finished.close()
        return [finished.path] if finished.frames else []

    def add(self, time: float, pixels: np.ndarray, found: Any) -> Any:
        """Adds a frame of the clip; gives ``found`` with the tracks of its objects."""
        if isinstance(found, Detections):
            self._tracker = self._tracker or Tracker(self.score)
            found = dataclasses.replace(found, tracks=self._tracker.update(found, time))
        if self._video is not None and self.draw is not None:
            self._video.add(self.draw(pixels, found), time)
        return found
