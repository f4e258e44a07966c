"""Objects followed through a video, and the video with them drawn in."""

from .clips import ClipWriter
from .tracking import Tracker
from .writing import VideoWriter

__all__ = ['ClipWriter', 'Tracker', 'VideoWriter']
