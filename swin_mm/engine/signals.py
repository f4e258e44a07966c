"""SIGTERM, SIGUSR1 and Ctrl-C end a training at a place where it can go on."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ..errors import CheckpointError
from ..registry import HOOKS
from .newest import noted_checkpoint
from .saving import SafeCheckpointHook

SIGNALS = ('SIGTERM', 'SIGUSR1', 'SIGINT')
FILE = 'interrupted.pth'  # one name: the next interruption writes over it, the end of the run deletes it


class Stopped(SystemExit):
    """Ends a program with exit status 0: its training was interrupted, and what it reached is saved."""


@HOOKS.register_module()
class StopOnSignal(Hook):
    """Ends a training on SIGTERM, SIGUSR1 or Ctrl-C, of any rank, after the step: saves ``interrupted.pth``, exits 0.

    The log says how to go on. A second Ctrl-C ends at once and saves nothing. The program ends by `Stopped`, a
    ``SystemExit``. With accumulated gradients the step ends where the weights are updated; a validation is finished
    first, since averaged weights may be in the model's place. A signal that the program ignores stays ignored.

    The ranks agree after every iteration, on one number that they reduce.
    """

    priority = 'LOWEST'  # after everything that belongs to an iteration

    def __init__(self) -> None:
        self._received = 0
        self._previous: dict[int, Any] = {}
        self._training = False
        self._saver: SafeCheckpointHook  # from `before_train` on

    def before_train(self, runner: Runner) -> None:
        """Waits for signals, in the main thread of a program: elsewhere Python cannot."""
        self._received, self._training = 0, True
        saver = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
        if saver is None:
            saver = SafeCheckpointHook()
            saver.before_train(runner)
        self._saver = saver
        if threading.current_thread() is not threading.main_thread():
            return
        for name in SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._previous[number] = signal.signal(number, self._receive)
        for loop in (runner.train_loop, runner._val_loop):
            loader = getattr(loop, 'dataloader', None)
            if loader is not None:
                loader.worker_init_fn = partial(_outlive_signals, loader.worker_init_fn)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None):
        """Saves and raises Stopped, on all ranks, if one of them received a signal."""
        if not _is_accumulating(runner):
            self._stop_if_received(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Says what a signal has to wait for."""
        if self._received and self._training:
            name = signal.Signals(self._received).name
            runner.logger.warning(f'{name}: the run stops after this validation; Ctrl-C ends it at once')

    def after_val(self, runner: Runner) -> None:
        """As after an iteration."""
        if self._training:
            self._stop_if_received(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Gives the signals back, and deletes what an earlier interruption saved."""
        self._give_back()
        file = Path(self._saver.out_dir, FILE)
        if is_main_process() and noted_checkpoint(runner.work_dir) != file:
            file.unlink(missing_ok=True)  # on this machine; a storage backend keeps it

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # Nothing else here: the program may be anywhere, in the middle of writing its log too.
        self._received = number
        if number == signal.SIGINT:
            signal.signal(number, self._previous[number])

    def _give_back(self) -> None:
        self._training = False
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _stop_if_received(self, runner: Runner, iteration: int) -> None:
        received = torch.tensor(self._received)
        all_reduce(received, 'max')
        if not received:
            return
        name = signal.Signals(int(received)).name
        runner.logger.warning(f'{name}: saving at iteration {iteration}')
        saved = self._saver.save(runner, FILE, meta=dict(epoch=runner.epoch, iter=iteration))
        barrier()  # until the main process has saved
        self._give_back()
        if not saved:
            raise CheckpointError(
                f'{name} ended the run at iteration {iteration}, and {FILE} was not saved: see the log'
            )
        file = os.path.join(self._saver.out_dir, FILE)
        runner.logger.warning(f'{name}: saved {file}. Go on with: {resume_command(sys.argv)}')
        raise Stopped(0)


def resume_command(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """The command line that goes on with the run that ``argv`` started, in this environment.

    It begins with ``swin-mm train``, ``python SCRIPT`` or, where torchrun started the processes, ``torchrun ...``.
    """
    program, *words = argv
    kept, skip = [], False
    for word in words:
        value, skip = skip and not word.startswith('-'), word == '--resume'
        if not (value or skip or word.startswith('--resume=')):
            kept.append(word)
    installed = program.startswith('swin-mm ')
    if 'TORCHELASTIC_RUN_ID' in environ:
        start = [*_torchrun(environ), *(['-m', 'swin_mm', program.split()[1]] if installed else [program])]
    else:
        start = program.split() if installed else ['python', program]
    return shlex.join([*start, *kept, '--resume'])


def _torchrun(environ: Mapping[str, str]) -> list[str]:
    start = ['torchrun', f'--nproc_per_node={environ["LOCAL_WORLD_SIZE"]}']
    if environ.get('GROUP_WORLD_SIZE', '1') != '1':
        start += [f'--nnodes={environ["GROUP_WORLD_SIZE"]}', f'--node_rank={environ["GROUP_RANK"]}']
        start += [f'--master_addr={environ["MASTER_ADDR"]}', f'--master_port={environ["MASTER_PORT"]}']
    return start


def _is_accumulating(runner: Runner) -> bool:
    """Whether there are gradients of a step that is not done: no checkpoint holds them."""
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return not all(wrapper.should_update() for wrapper in wrappers)


def _outlive_signals(init: Callable[[int], None] | None, worker: int) -> None:
    """Starts a loader's worker that leaves signals to the training: they often go to all processes of a job.

    SIGTERM of the training itself still ends it: that is how Python stops workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, 'SIGUSR1'):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_training, args=[os.getppid()], daemon=True).start()
    if init is not None:
        init(worker)


def _end_with_training(training: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != training:
        pass
    os._exit(0)
