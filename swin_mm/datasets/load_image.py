"""Reads the images of a training set so that a broken file costs one image and not the run."""

import logging
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from ..errors import RunError, one_line, shortlist
from ..registry import TRANSFORMS


class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` for training: a file that cannot be read gives None, and another image is drawn.

    mmengine's data sets draw another image if a pipeline returns None (``max_refetch``), with the seeded generator of
    the process. mmcv's own ``ignore_empty`` is not enough: a file that is there and cannot be decoded still ends the
    run. A test pipeline keeps ``LoadImageFromFile``: without all of its images, a metric is another metric.

    Every process that loads (worker or rank) logs a broken file once, and counts for itself as long as it lives. So
    keep ``persistent_workers=True``.

    Args:
        max_broken: Share of broken files in all reads of a process, in [0, 1), above which the run ends.
        min_broken: Number of different broken files that ends a run, so that one file of a small set does not.
        loader: Settings of another loading step, such as ``LoadBands``, that reads the files; None means mmcv's.
        **options: Options of ``LoadImageFromFile``.

    Raises:
        RunError: ``min_broken`` is reached and ``max_broken`` is exceeded.
    """

    def __init__(self, max_broken: float = 0.01, min_broken: int = 10, loader: dict | None = None, **options: Any):
        if not 0 <= max_broken < 1:
            raise ValueError(f'max_broken must be in [0, 1), got max_broken={max_broken}')
        if min_broken < 1:
            raise ValueError(f'min_broken must be >= 1, got min_broken={min_broken}')
        if loader and options:
            raise ValueError(f'options of LoadImageFromFile must be left out beside a loader, got {options}')
        super().__init__(**({'backend_args': loader.get('backend_args')} if loader else options))
        self.loader = TRANSFORMS.build(loader) if loader else None
        self.max_broken, self.min_broken = max_broken, min_broken
        self.read = self.failed = 0
        self.broken: dict[str, str] = {}

    def transform(self, results: dict) -> dict | None:
        """Adds ``img`` (H, W, channels) to ``results``; gives None if it cannot be read."""
        self.read += 1
        try:
            return self.loader.transform(results) if self.loader else super().transform(results)
        except ImportError:  # a package is missing, and no file is at fault
            raise
        # Files, decoders and storage backends each raise errors of their own. Any other fault shows in the rate.
        except Exception as error:
            self._leave_out(str(results['img_path']), error)
            return None

    def _leave_out(self, path: str, error: Exception) -> None:
        self.failed += 1
        if path not in self.broken:
            reason = one_line(f'{type(error).__name__}: {error}')
            self.broken[path] = reason
            # An error and no warning: of the ranks but the first, only errors are shown.
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
        settings = f'loader={self.loader}, max_broken={self.max_broken}, min_broken={self.min_broken}'
        return f'{super().__repr__()[:-1]}, {settings})'
