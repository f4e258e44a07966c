"""How a command ends: with its reason in one line and an exit status, never with a traceback that a user must read.

It imports nothing of PyTorch or OpenMMLab: a command that cannot import them ends here as well.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import CheckpointError, PreflightError, RunError

INTERRUPTED = 130  # as shells say it: 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE
OPENMMLAB = ('mmengine', 'mmcv', 'mmdet', 'mmseg')


def run(main: Callable[[], object]) -> None:
    """Runs a command's ``main``; an int that it returns is the exit status.

    One that cannot start, load or go on ends with its reason and status 1.
    """
    try:
        status = main()
        _leave_process_group()
        sys.stdout.flush()
    except (PreflightError, CheckpointError) as error:
        sys.exit(f'{program()}: {error}' if os.environ.get('LOCAL_RANK', '0') == '0' else 1)
    except RunError as error:  # of any rank: no other one may have met it
        sys.exit(f'{program()}: rank {os.environ.get("RANK", "0")}: {error}')
    except ModuleNotFoundError as error:
        package = (error.name or '').partition('.')[0]
        if package not in OPENMMLAB or sys.modules.get(package) is not None:  # or it is there, and broken
            raise
        sys.exit(f"{program()}: {package} is not installed: pip install 'swin-mm[openmmlab]'; see `swin-mm doctor`")
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        sys.exit(BROKEN_PIPE)  # `| head` has seen enough
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # a training stops with less haste first: see StopOnSignal
    if isinstance(status, int):
        sys.exit(status)


def program() -> str:
    """How the command was started, for its messages: 'train.py' or 'swin-mm train'."""
    return Path(sys.argv[0]).name


def _leave_process_group() -> None:
    """Ends what the processes of a launcher share: left to the end of Python, its threads may abort the process."""
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _output_is_closed() -> bool:
    """Whether nobody reads the standard output any more; what is left of it then goes nowhere."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return True
    return False
