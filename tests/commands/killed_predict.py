"""Runs ``swin-mm predict`` in processes that are stopped in the middle of a write, then to its end, then undisturbed.

python killed_predict.py SIGNAL MOMENTS ARGUMENTS... prints the exit statuses; a moment is the number of a write.
"""

import os
import pathlib
import signal
import sys

from swin_mm.commands import predict
from swin_mm.inference.outputs.output import GrowingFile


def stop_at(moment: int, how: signal.Signals) -> None:
    """Lets write number ``moment`` of this process, to any file of the outputs, write a half and stop the process."""
    writes = 0

    def halved(write, encode=lambda data: data):
        def wrapped(self, data, *args, **kwargs):
            nonlocal writes
            writes += 1
            if writes != moment:
                return write(self, data, *args, **kwargs)
            if how == signal.SIGKILL:
                write(self, data[: len(data) // 2], *args, **kwargs)
            os.kill(os.getpid(), how)
            return write(self, data, *args, **kwargs)  # of a process that is asked to end

        return wrapped

    for kind, name in ((GrowingFile, '_write'), (pathlib.Path, 'write_bytes'), (pathlib.Path, 'write_text')):
        setattr(kind, name, halved(getattr(kind, name)))


def status_of(arguments: list[str], moment: int, how: signal.Signals) -> int:
    """Runs the command in a process of its own: its exit status, or minus the signal that killed it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        if moment:
            stop_at(moment, how)
        status = predict.main(arguments)
        sys.stdout.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == '__main__':
    how, moments, arguments = signal.Signals[sys.argv[1]], sys.argv[2].split(','), sys.argv[3:]
    statuses = [status_of([*arguments, '--resume'], int(moment), how) for moment in (*moments, 0)]
    statuses.append(status_of([*arguments, '--out-dir', 'whole'], 0, how))
    print('statuses', *statuses)
