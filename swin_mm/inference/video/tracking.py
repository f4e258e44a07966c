"""Follows objects from frame to frame with ByteTrack (Zhang et al., ECCV 2022), of Roboflow's package trackers.

That package is where supervision's own ByteTrack went: supervision 0.31 has no tracker any more.
"""

import numpy as np

from ..results import Detections

LEAST_SCORE = 0.1  # of the paper: objects below it are noise, those above it carry tracks through occlusions
PATIENCE = 1.0  # seconds for which an object may be out of sight


class Tracker:
    """Gives the objects of a video's frames their track numbers.

    ``score``: an object begins a track from this score on.
    """

    def __init__(self, score: float):
        from trackers import ByteTrackTracker

        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(30 * PATIENCE),  # in frames of 1/30 s, whatever the rate
            track_activation_threshold=score,
            high_conf_det_threshold=score,
        )

    def update(self, found: Detections, time: float) -> np.ndarray:
        """Gives (N,) int64: the tracks of a frame's objects, from 1, and 0 for an object that has none.

        An object gets one when it is seen in a second frame. ``time``: of the frame, in seconds; it must grow.
        """
        import supervision

        tracks = np.zeros(len(found.scores), np.int64)
        seen = np.flatnonzero(found.scores >= LEAST_SCORE)
        tracked = self._tracker.update(
            supervision.Detections(found.boxes[seen], confidence=found.scores[seen], data={'index': seen}),
            timestamp=time,
        )
        if len(tracked):
            tracks[tracked.data['index']] = np.asarray(tracked.tracker_id) + 1
        return tracks
