"""Runs a loop inside context managers, which undo what a hook changed, whatever ends the loop."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop


def around_run(hook: Hook, loop: BaseLoop, context: Callable[[], AbstractContextManager]) -> None:
    """Lets ``loop.run()`` happen inside ``context()``; a hook's later call replaces its earlier one.

    Hooks need this because mmengine calls none of them when a loop fails.
    """
    vars(loop).setdefault('_contexts', {})[type(hook)] = context
    loop.run = functools.partial(_run_inside, loop)


def _run_inside(loop: Any) -> Any:
    with ExitStack() as stack:
        for context in loop._contexts.values():
            stack.enter_context(context())
        return type(loop).run(loop)
