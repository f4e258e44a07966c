"""Saves checkpoints so that the newest is whole, whatever ends the run: a full disk, a kill, a machine crash."""

import os
from collections import deque
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..errors import CheckpointError, PreflightError, megabytes
from ..registry import HOOKS
from .atomic import NAME, AtomicBackend, free_bytes, remove_partial_files
from .newest import NOTE, newest_checkpoint, noted_checkpoint


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, with the same arguments, which never leaves a run without a whole checkpoint.

    A file takes its place whole, and older ones are removed only then. If one cannot be written, the log says so,
    training goes on, and the hook tries again at the next one. A run whose last checkpoint was not saved ends with
    CheckpointError. The file ``last_checkpoint`` holds a path relative to ``work_dir``, so the folder can be moved.
    """

    backend_args: dict | None
    last_ckpt: str | None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend=NAME)
        self.failures: dict[str, str] = {}  # why the last attempt failed, for 'last' and 'best'

    def before_run(self, runner: Runner) -> None:
        """Starts a resume without a path from the newest whole checkpoint. Raises CheckpointError if all are broken."""
        if not runner._resume or runner._load_from is not None:
            return
        path, passed_over = newest_checkpoint(runner.work_dir)
        for reason in passed_over:
            runner.logger.warning(f'passed over: {reason}')
        if path is not None:
            runner._load_from = str(path)
        elif passed_over:
            raise CheckpointError(f'no checkpoint in {runner.work_dir} is whole: ' + '; '.join(passed_over))

    def before_train(self, runner: Runner) -> None:
        """Checks that checkpoints can be written. Raises PreflightError if not."""
        # With these numbers mmengine would remove surplus checkpoints, one of which `last_checkpoint` may still name.
        numbers = runner.message_hub.pop_info('keep_ckpt_ids', [])
        super().before_train(runner)
        _outlive_full_disk_in_logging(runner)
        # A copied folder names the best checkpoints by their paths in the original, where nothing may be removed.
        best = dict(self._best())
        for key, path in best.items():
            if path:
                best[key] = self.file_backend.join_path(self.out_dir, Path(path).name)
        self._set_best(best)
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            for folder in {runner.work_dir, self.out_dir}:
                remove_partial_files(folder)
            check_writable(self.out_dir)
        source = Path(runner._load_from or '')
        if runner._resume and source.parent.resolve() == Path(self.out_dir).resolve():
            self._write_note(runner, source.name)
            self._remove_surplus(runner, numbers)
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            self._check_room(runner)

    def after_train(self, runner: Runner) -> None:
        """Raises CheckpointError if the last checkpoint, or the last best one, was not saved."""
        super().after_train(runner)
        if self.failures:
            raise CheckpointError(
                f'the run is over, but not everything was saved: {"; ".join(self.failures.values())}. '
                f'{self._newest_text(runner)}: make room, then go on from it with --resume'
            )

    def save(self, runner: Runner, filename: str, meta: dict) -> bool:
        """Saves the run as ``filename`` in ``out_dir`` and notes it; gives False, and logs why, if that fails.

        ``meta`` holds how many ``epoch`` and ``iter`` are done. Every process must call it; the main one writes.
        """
        try:
            runner.save_checkpoint(
                self.out_dir,
                filename,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            self._write_note(runner, filename)
        except OSError as error:
            self._say_failed(runner, 'last', error)
            return False
        self.failures.pop('last', None)
        return True

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Saves a checkpoint, then removes the oldest; mmengine removes the oldest first."""
        known = list(getattr(self, 'keep_ckpt_ids', ()))
        kept = [number for number in known if number != step] + [step]
        filename = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, filename)
        # The new file holds the number of the oldest too: after a kill in between, a resume from it removes the oldest.
        self._update_message_hub(runner, path, kept)
        if not self.save(runner, filename, meta):
            self._update_message_hub(runner, self.last_ckpt, known)
            return
        self.last_ckpt = path
        self._remove_surplus(runner, kept)

    def _write_note(self, runner: Runner, filename: str) -> None:
        if is_main_process():
            path = self.file_backend.join_path(self.out_dir, filename)
            local = isinstance(self.file_backend, LocalBackend)
            name = os.path.relpath(path, runner.work_dir) if local else path
            AtomicBackend().put_text(name, os.path.join(runner.work_dir, NOTE))

    def _remove_surplus(self, runner: Runner, numbers: list[int]) -> None:
        if self.max_keep_ckpts > 0:
            for number in numbers[: -self.max_keep_ckpts]:
                self._remove(runner, self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(number)))
            self.keep_ckpt_ids = deque(numbers, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _update_message_hub(self, runner: Runner, path: str | None, numbers: list[int]) -> None:
        runner.message_hub.update_info('last_ckpt', path)
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', numbers)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Saves a better checkpoint, then removes the former best.

        mmengine would remove the former best first, so its path is hidden meanwhile.
        """
        former, known = dict(self._best()), dict(runner.message_hub.runtime_info)
        self._set_best(dict.fromkeys(former))
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            for key in [key for key in runner.message_hub.runtime_info if key.startswith('best_')]:
                runner.message_hub.pop_info(key)
                if key in known:
                    runner.message_hub.update_info(key, known[key])
            self._set_best(former)
            self._say_failed(runner, 'best', error)
            return
        better = {key: path for key, path in self._best() if path}
        if better:
            self.failures.pop('best', None)
        self._set_best({**former, **better})
        for key in better:
            if (old := former[key]) and old != better[key]:
                self._remove(runner, old)

    def _best(self) -> list[tuple[str, str | None]]:
        """Gives (metric, path of the best checkpoint by it, or None if there is none yet), as mmengine keeps them."""
        if not self.save_best:
            return []
        if len(self.key_indicators) == 1:
            return [('', self.best_ckpt_path)]
        return [(key, self.best_ckpt_path_dict.get(key)) for key in self.key_indicators]

    def _set_best(self, paths: dict[str, str | None]) -> None:
        if '' in paths:
            self.best_ckpt_path = paths['']
        elif paths:
            self.best_ckpt_path_dict = paths

    def _remove(self, runner: Runner, path: str) -> None:
        if not is_main_process():
            return
        try:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # DeepSpeed writes a folder
                self.file_backend.rmtree(path)
        except OSError as error:
            runner.logger.warning(f'{path}, no longer needed, could not be removed: {error}')

    def _say_failed(self, runner: Runner, kind: str, error: OSError) -> None:
        self.failures[kind] = str(error)
        runner.logger.error(
            f'THE CHECKPOINT WAS NOT SAVED: {error}. {self._newest_text(runner)}. Training goes on and tries again '
            'at the next one'
        )

    def _newest_text(self, runner: Runner) -> str:
        noted = noted_checkpoint(runner.work_dir)
        return f'The newest whole one is {noted}' if noted else 'There is none yet'

    def _check_room(self, runner: Runner) -> None:
        free, size = free_bytes(self.out_dir), self._expected_size(runner)
        if free is None:
            return
        if free < size:
            raise PreflightError(
                f'{self.out_dir} has {megabytes(free)} free, a checkpoint needs about {megabytes(size)}: make room, or '
                'choose another folder with --work-dir'
            )
        # One more than is kept, since the oldest goes after the newest is written. The best hold weights alone.
        files = self.max_keep_ckpts + 1 - len(getattr(self, 'keep_ckpt_ids', ())) + len(self._best())
        if self.max_keep_ckpts > 0 and free < files * size:
            runner.logger.warning(
                f'{self.out_dir} has {megabytes(free)} free, this run will need up to {megabytes(files * size)} for '
                f'{files} more checkpoints: the disk may get full (max_keep_ckpts={self.max_keep_ckpts})'
            )

    def _expected_size(self, runner: Runner) -> int:
        """Gives the bytes of the last checkpoint, or else counts the tensors, with two moments as AdamW has them."""
        noted = noted_checkpoint(runner.work_dir)
        if runner._resume and noted and noted.is_file():
            return noted.stat().st_size
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        tensors = sum(t.numel() * t.element_size() for t in model.state_dict().values())
        moments = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        return tensors + moments if self.save_optimizer else tensors


def _outlive_full_disk_in_logging(runner: Runner) -> None:
    """Turns errors of writing losses into warnings: else a full disk would end the run, with weights not saved."""
    write = runner.visualizer.add_scalars

    def add_scalars(*args, **kwargs) -> None:
        try:
            write(*args, **kwargs)
        except OSError as error:
            runner.logger.warning(f'losses and metrics were not written to a file: {error}')

    if 'add_scalars' not in vars(runner.visualizer):  # the visualizer outlives a run, and is wrapped once
        runner.visualizer.add_scalars = add_scalars


def check_writable(folder: str | os.PathLike) -> None:
    """Raises PreflightError if no file can be written in ``folder``; makes the folder if need be."""
    probe = os.path.join(folder, '.writable')
    try:
        AtomicBackend().put(b'0', probe)
        os.remove(probe)
    except OSError as error:
        raise PreflightError(
            f'checkpoints cannot be written to {folder}: {error.strerror}. Choose another folder with --work-dir'
        ) from error
