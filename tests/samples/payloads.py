"""What leaves a trace if it runs: the proofs that nothing does."""

import os
from collections.abc import Callable
from pathlib import Path


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def program(trace: Path) -> str:
    """A config that makes a folder."""
    return f'model = __import__("os").mkdir({str(trace)!r})\n'


def works(trace: Path, run: Callable[[], object]) -> None:
    """The payload does make its folder where nobody keeps it from that."""
    assert not trace.exists()
    run()
    trace.rmdir()
