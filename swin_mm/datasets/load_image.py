"""Pictures of a training set, read so that a broken file costs one picture and not the run."""

import logging
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from ..errors import RunError, one_line, shortlist


class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` for training: None for a file that cannot be read; mmengine draws another.

    Its data sets do so where a pipeline returns None (``max_refetch``), from the seeded generator of the process. With
    mmcv's ``ignore_empty`` a file that is there and cannot be decoded still ends the run. A test pipeline keeps
    ``LoadImageFromFile``: without all of its pictures a metric is another metric.

    Every process that loads (worker or rank) logs a broken file once and counts for itself, as long as it lives: keep
    ``persistent_workers=True``.

    Args:
        max_broken: Share of what a process has read, in [0, 1), above which the run ends.
        min_broken: As many different broken files must there be, so that one file of a small set ends no run.
        **options: Those of ``LoadImageFromFile``.

    Raises:
        RunError: There are more.
    """

    def __init__(self, max_broken: float = 0.01, min_broken: int = 10, **options: Any):
        if not 0 <= max_broken < 1:
            raise ValueError(f'max_broken must be in [0, 1), got max_broken={max_broken}')
        if min_broken < 1:
            raise ValueError(f'min_broken must be >= 1, got min_broken={min_broken}')
        super().__init__(**options)
        self.max_broken, self.min_broken = max_broken, min_broken
        self.read = self.failed = 0
        self.broken: dict[str, str] = {}

    def transform(self, results: dict) -> dict | None:
        """``results`` with ``img`` (H, W, 3), uint8; None if it cannot be read."""
        self.read += 1
        try:
            return super().transform(results)
        except Exception as error:  # files, decoders and storage backends each have their own; a rate tells the rest
            self._leave_out(str(results['img_path']), error)
            return None

    def _leave_out(self, path: str, error: Exception) -> None:
        self.failed += 1
        if path not in self.broken:
            self.broken[path] = reason = one_line(f'{type(error).__name__}: {error}')
            # Other ranks show errors only.
            print_log(
                f'{path} is left out, it cannot be read: {reason} ({len(self.broken)} such files in this process)',
                'current',
                logging.ERROR,
            )
        if len(self.broken) >= self.min_broken and self.failed > self.max_broken * self.read:
            raise RunError(
                f'{len(self.broken)} pictures cannot be read: {shortlist(self.broken)}. That is {self.failed} of '
                f'{self.read} reads of one process, more than max_broken={self.max_broken:g} of LoadImage. The log has '
                'all with their reasons. Is the disk there and the data set whole?'
            )

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, max_broken={self.max_broken}, min_broken={self.min_broken})'
