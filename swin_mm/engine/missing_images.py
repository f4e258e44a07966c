"""Checks before a run that the images for validation and test are there."""

import os
from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from ..errors import RunError, shortlist
from ..recipes import datasets_in
from ..registry import HOOKS


@HOOKS.register_module()
class CheckedImages(Hook):
    """Ends a run before it starts if images to validate or test on are missing or empty.

    The ranks share the work, and a file costs one system call. A file that cannot be decoded is therefore found only
    when it is read, and mmcv names it. Images in storage backends, and data sets of unknown kinds, are not checked.
    """

    def before_run(self, runner: Runner) -> None:
        """Raises RunError with the names of these files."""
        rank, world_size = get_dist_info()
        for loop in (runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                paths = list(image_paths(loop.dataloader.dataset))[rank::world_size]
                wrong = [f'{path} ({reason})' for path in paths if (reason := _why_unreadable(path))]
                if wrong:
                    raise RunError(
                        f'{len(wrong)} of {len(paths)} pictures for {type(loop).__name__} cannot be read: '
                        f'{shortlist(wrong)}. Put them there, or take them out of the annotations'
                    )


def image_paths(dataset: Any) -> Iterator[str]:
    """Yields the local image files of an mmengine data set, or of the data sets inside a wrapper."""
    for inner in datasets_in(dataset):
        yield from _paths_in(inner)


def _paths_in(dataset: Any) -> Iterator[str]:
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    is_remote = any(getattr(part, 'backend_args', None) for part in (dataset, *steps))
    if is_remote or not hasattr(dataset, 'get_data_info'):
        return
    for i in range(len(dataset)):
        path = dataset.get_data_info(i).get('img_path')
        if isinstance(path, str) and '://' not in path:
            yield path


def _why_unreadable(path: str) -> str | None:
    try:
        return None if os.stat(path).st_size else 'it is empty, 0 bytes'
    except OSError as error:
        return error.strerror
