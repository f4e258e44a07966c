"""A hook that writes the losses of every step of this process into a file of its own."""

import json
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module(force=True)
class RecordedLosses(Hook):
    """Appends [number of the step from 1, {name: loss}] to ``losses_RANK.jsonl`` in the work dir."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        losses = {name: float(value) for name, value in outputs.items() if 'loss' in name}
        with Path(runner.work_dir, f'losses_{get_rank()}.jsonl').open('a') as file:
            file.write(json.dumps([runner.iter + 1, losses]) + '\n')


def read(work_dir: Path, processes: int) -> dict[int, dict[str, float]]:
    """The losses of each step: their means over the processes, each of which had as many images."""
    files = [(work_dir / f'losses_{rank}.jsonl').read_text().splitlines() for rank in range(processes)]
    steps = {}
    for lines in zip(*files, strict=True):
        (number, *others), losses = zip(*map(json.loads, lines), strict=True)
        assert all(other == number for other in others)
        steps[number] = {name: sum(part[name] for part in losses) / processes for name in losses[0]}
    return steps
