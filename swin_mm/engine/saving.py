"""Saves checkpoints so that the newest is whole, whatever ends the run: a full disk, a kill, a machine crash."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ..errors import CheckpointError
from ..registry import HOOKS
from .atomic import NAME, AtomicBackend, remove_partial_files
from .flexible import local_files_written_whole
from .newest import NOTE, agreed_checkpoint, checkpoint_folders, noted_checkpoint
from .room import check_room, check_writable, expected_size, outlive_full_disk_in_logging


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, with the same arguments, which never leaves a run without a whole checkpoint.

    A file takes its place whole, and older ones are removed only then. If one cannot be written, the log says so,
    training goes on, and the hook tries again at the next one. A run whose last checkpoint was not saved ends with
    CheckpointError. The file ``last_checkpoint`` holds a path, as mmengine writes it; of that only the name counts
    here, so a run goes on in a folder that was moved or copied.
    """

    backend_args: dict | None
    last_ckpt: str | None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend=NAME)
        self.failures: dict[str, str] = {}  # why the last attempt failed, for 'last' and 'best'
        self._progress: dict[str, int] = {}  # epochs and iterations done, of the checkpoint that is being saved

    def before_run(self, runner: Runner) -> None:
        """Starts a resume without a path from the newest whole checkpoint. Raises CheckpointError if all are broken."""
        if not runner._resume or runner._load_from is not None:
            return
        path, passed_over = agreed_checkpoint(*checkpoint_folders(runner.work_dir, self.out_dir))
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
        outlive_full_disk_in_logging(runner)
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
            # One more than is kept, since the oldest goes after the newest is written. The best hold weights alone.
            files = self.max_keep_ckpts + 1 - len(getattr(self, 'keep_ckpt_ids', ())) + len(self._best())
            check_room(runner, self.out_dir, self._expected_size(runner), files, self.max_keep_ckpts)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Says how much of the run is done: mmengine's FlexibleRunner writes the end of an epoch in any case."""
        checkpoint['meta'].update(self._progress)

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
            with self._writing(runner, meta):
                runner.save_checkpoint(
                    self.out_dir,
                    filename,
                    self.file_client_args,
                    save_optimizer=self.save_optimizer,
                    save_param_scheduler=self.save_param_scheduler,
                    meta=dict(meta),
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
            if isinstance(self.file_backend, LocalBackend):
                path = os.path.abspath(path)  # mmengine's own resume opens it, from whatever directory
            AtomicBackend().put_text(path, os.path.join(runner.work_dir, NOTE))

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
            with self._writing(runner, dict(epoch=runner.epoch, iter=runner.iter)):
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

    @contextlib.contextmanager
    def _writing(self, runner: Runner, progress: dict[str, int]) -> Iterator[None]:
        ignored = self.backend_args == dict(backend=NAME) and not isinstance(runner, Runner)
        self._progress = progress
        try:
            with local_files_written_whole() if ignored else contextlib.nullcontext():
                yield
        finally:
            self._progress = {}

    def _noted(self, runner: Runner) -> Path | None:
        return noted_checkpoint(runner.work_dir, self.out_dir)

    def _newest_text(self, runner: Runner) -> str:
        noted = self._noted(runner)
        return f'The newest whole one is {noted}' if noted else 'There is none yet'

    def _expected_size(self, runner: Runner) -> int:
        noted = self._noted(runner)
        if runner._resume and noted and noted.is_file():
            return noted.stat().st_size
        return expected_size(runner.model, runner.world_size, self.save_optimizer)
