"""Images that validation and test need, looked for before the run."""

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
    """Ends a run before it starts where pictures to validate or test on are missing or empty.

    The ranks share the files. One system call a file: files that cannot be decoded are found when they are read, and
    mmcv names them. Pictures in storage backends and data sets of unknown kinds are not looked for.
    """

    def before_run(self, runner: Runner) -> None:
        """Raises RunError with the files."""
        rank, world_size = get_dist_info()
        for loop in (runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                paths = list(image_paths(loop.dataloader.dataset))[rank::world_size]
                wrong = [f'{path} ({reason})' for path in paths if (reason := _unreadable(path))]
                if wrong:
                    raise RunError(
                        f'{len(wrong)} of {len(paths)} pictures for {type(loop).__name__} cannot be read: '
                        f'{shortlist(wrong)}. Put them there, or take them out of the annotations'
                    )


def image_paths(dataset: Any) -> Iterator[str]:
    """The local files of a data set of mmengine, or of those that a wrapper holds."""
    for inner in datasets_in(dataset):
        yield from _paths_in(inner)


def _paths_in(dataset: Any) -> Iterator[str]:
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    if not hasattr(dataset, 'get_data_info') or any(getattr(x, 'backend_args', None) for x in (dataset, *steps)):
        return
    for i in range(len(dataset)):
        path = dataset.get_data_info(i).get('img_path')
        if isinstance(path, str) and '://' not in path:
            yield path


def _unreadable(path: str) -> str | None:
    try:
        return None if os.stat(path).st_size else 'it is empty, 0 bytes'
    except OSError as error:
        return error.strerror
