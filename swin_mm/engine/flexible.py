"""What mmengine's FlexibleRunner leaves out where Runner does it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from mmengine.fileio import get_file_backend, register_backend

from .atomic import AtomicBackend


def begin_before_loading(runner: Any) -> None:
    """Calls ``before_run`` of the hooks now, and not a second time.

    FlexibleRunner loads the checkpoint before it calls ``before_run``, and so before EMAHook has averages to load into.
    """
    runner.call_hook('before_run')
    call_hook = runner.call_hook

    def call_others(name: str, **arguments: Any) -> None:
        if name == 'before_run':
            del runner.call_hook
        else:
            call_hook(name, **arguments)

    runner.call_hook = call_others


@contextlib.contextmanager
def local_files_written_whole() -> Iterator[None]:
    """Lets mmengine write every local file whole or not at all.

    FlexibleRunner's strategies pass no ``backend_args`` on, so a checkpoint would go through the plain local backend.
    """
    usual = type(get_file_backend('a local file'))
    register_backend('local', AtomicBackend, force=True, prefixes='')
    try:
        yield
    finally:
        register_backend('local', usual, force=True, prefixes='')
