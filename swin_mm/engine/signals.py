"""Ends a training on SIGTERM, SIGUSR1 or Ctrl-C at a place from which it can go on."""

import bisect
import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

from ..errors import CheckpointError
from ..registry import HOOKS
from .around import around_run
from .newest import noted_checkpoint
from .saving import SafeCheckpointHook

SIGNALS = ('SIGTERM', 'SIGUSR1', 'SIGINT')
FILE = 'interrupted.pth'  # always this name: the next interruption overwrites it, the end of the run deletes it
# A second SIGTERM within these seconds is a copy of the first: torchrun passes on what its process group gets as well.
COPIES = 5.0


class Stopped(SystemExit):
    """Ends a program with exit status 0, after its training was interrupted and saved."""


@HOOKS.register_module()
class StopOnSignal(Hook):
    """Ends a training after the current step, when any rank gets SIGTERM, SIGUSR1 or Ctrl-C.

    The state is saved in ``interrupted.pth``, and the log says how to go on. The other hooks end as after a training
    (``after_train``, ``after_run``). The program ends with exit status 0, by `Stopped`, a ``SystemExit``. A second
    Ctrl-C, or a second SIGTERM more than 5 seconds after the first, ends it at once and saves nothing.

    With accumulated gradients, a step ends where the weights are updated. A validation is finished first, since
    averaged weights may be in the model's place; so is one that is due after the step, once the step is saved. A signal
    that the program ignores stays ignored.

    To agree, the ranks reduce one number after every iteration.
    """

    priority = 'LOWEST'  # it comes after everything that belongs to an iteration

    def __init__(self) -> None:
        self._received = 0
        self._received_at = 0.0  # seconds, by `time.monotonic`
        self._previous: dict[int, Any] = {}
        self._training = False
        self._saver: SafeCheckpointHook  # from `before_train` on

    def before_run(self, runner: Runner) -> None:
        """Gives the signals back after this run, whatever ends it."""
        if isinstance(runner._train_loop, BaseLoop):
            around_run(self, runner._train_loop, partial(self._ending, runner))

    def before_train(self, runner: Runner) -> None:
        """Takes over the signals, in the main thread of a program only: elsewhere Python cannot."""
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

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Lets a saver that is not among the hooks of the run, as in a user's own config, add to its checkpoint."""
        if self._saver not in runner.hooks:
            self._saver.before_save_checkpoint(runner, checkpoint)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None):
        """Saves and raises Stopped, on all ranks, if any rank received a signal."""
        if not _is_accumulating(runner) and self._save_if_received(runner, runner.iter + 1):
            if not _validates_next(runner):
                raise Stopped(0)
            runner.logger.warning('the run stops after the validation that is due')

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Logs that a received signal takes effect after this validation."""
        if self._received and self._training:
            name = signal.Signals(self._received).name
            runner.logger.warning(f'{name}: the run stops after this validation; Ctrl-C ends it at once')

    def after_val(self, runner: Runner) -> None:
        """Saves and raises Stopped, on all ranks, if any rank received a signal during a training."""
        if self._training and self._save_if_received(runner, runner.iter):
            raise Stopped(0)

    def after_train(self, runner: Runner) -> None:
        """Deletes the file that an earlier interruption saved, unless this run was interrupted as well."""
        file = Path(self._saver.out_dir, FILE)
        if is_main_process() and noted_checkpoint(runner.work_dir, self._saver.out_dir) != file:
            file.unlink(missing_ok=True)  # a local file only: a storage backend keeps its own

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # No more than this: the program may be anywhere, even in the middle of writing its log.
        now, first = time.monotonic(), not self._received
        if first:
            self._received_at = now
        elif number == signal.SIGTERM and now - self._received_at > COPIES:
            signal.signal(number, self._previous[number])
            signal.raise_signal(number)
        self._received = number
        if number == signal.SIGINT:
            signal.signal(number, self._previous[number])

    @contextlib.contextmanager
    def _ending(self, runner: Runner) -> Iterator[None]:
        try:
            yield
        except Stopped:
            for name in ('after_train', 'after_run'):  # they close TensorBoard's files, and W&B's run
                runner.call_hook(name)
            raise
        finally:
            self._training = False
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous.clear()

    def _save_if_received(self, runner: Runner, iteration: int) -> bool:
        """Saves and says True, on all ranks, if any rank received a signal. Raises CheckpointError if it cannot."""
        received = torch.tensor(self._received)
        all_reduce(received, 'max')
        if not received:
            return False
        name = signal.Signals(int(received)).name
        runner.logger.warning(f'{name}: saving at iteration {iteration}')
        saved = self._saver.save(runner, FILE, meta=dict(epoch=runner.epoch, iter=iteration))
        barrier()  # until the main process has saved
        if not saved:
            raise CheckpointError(
                f'{name} ended the run at iteration {iteration}, and {FILE} was not saved: see the log'
            )
        file = os.path.join(self._saver.out_dir, FILE)
        runner.logger.warning(f'{name}: saved {file}. Go on with: {resume_command(sys.argv)}')
        return True


def _validates_next(runner: Runner) -> bool:
    """Whether the loop validates before the next step. Otherwise a resumed run would begin after that validation.

    A loop of epochs validates after an epoch, and a run that was stopped before its end goes on with that end.
    """
    loop = runner.train_loop
    if runner._val_loop is None or not isinstance(loop, IterBasedTrainLoop):
        return False
    done = loop.iter + 1
    interval = loop.dynamic_intervals[bisect.bisect(loop.dynamic_milestones, done + 1) - 1]
    return done >= loop.val_begin and (done % interval == 0 or done == loop.max_iters)


def resume_command(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """The command line that goes on with the run that ``argv`` started, in this environment.

    It begins with ``swin-mm train``, ``python SCRIPT`` or, where torchrun started the processes, ``torchrun ...``.
    """
    program, *words = argv
    *before, command = program.split()
    module = before and before[-1] in ('swin-mm', 'swin_mm')  # not the script of a clone
    if 'TORCHELASTIC_RUN_ID' in environ:
        what = ['-m', 'swin_mm', command] if module else [program]
        start = _torchrun_command(environ) + what
    else:
        start = program.split() if module else ['python', program]
    return shlex.join([*start, *_without_resume(words), '--resume'])


def _without_resume(words: Sequence[str]) -> list[str]:
    """``words`` without ``--resume`` and the checkpoint that may follow it."""
    kept: list[str] = []
    for i, word in enumerate(words):
        is_value = i > 0 and words[i - 1] == '--resume' and not word.startswith('-')
        if not (is_value or word == '--resume' or word.startswith('--resume=')):
            kept.append(word)
    return kept


def _torchrun_command(environ: Mapping[str, str]) -> list[str]:
    start = ['torchrun', f'--nproc_per_node={environ["LOCAL_WORLD_SIZE"]}']
    if environ.get('GROUP_WORLD_SIZE', '1') != '1':
        start += [f'--nnodes={environ["GROUP_WORLD_SIZE"]}', f'--node_rank={environ["GROUP_RANK"]}']
        start += [f'--master_addr={environ["MASTER_ADDR"]}', f'--master_port={environ["MASTER_PORT"]}']
    return start


def _is_accumulating(runner: Runner) -> bool:
    """Whether there are gradients of an unfinished step, which no checkpoint holds."""
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return not all(wrapper.should_update() for wrapper in wrappers)


def _outlive_signals(init: Callable[[int], None] | None, worker: int) -> None:
    """Makes a loader's worker leave signals to the training, since they often go to all processes of a job.

    A SIGTERM from the training itself still ends the worker: that is how Python stops workers.
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
    """Ends this process when the process with the id ``training`` sends it SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != training:
        pass
    os._exit(0)
