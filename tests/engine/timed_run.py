"""A training of the small Mask R-CNN recipe that takes a step each time it is told to, and says how long it took.

    python timed_run.py DATA WORK_DIR {with,without}    # a line in: a step; a line out: its seconds

``without``: none of the hooks of ``swin_mm.engine``.
"""

import sys
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import swin_mm  # noqa: F401  installs what checkpoints need
from swin_mm.engine.resuming import ContinuedRun
from swin_mm.engine.signals import StopOnSignal

ROOT = Path(__file__).parents[2]
MMENGINE = dict(checkpoint='CheckpointHook')


class FirstInTurn(Hook):
    """Waits before an iteration, and before all other hooks, to be told to go."""

    priority = 0

    def __init__(self) -> None:
        self.start = 0.0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Waits."""
        if not sys.stdin.readline():
            sys.exit()
        self.start = time.perf_counter()


class LastInTurn(Hook):
    """Says after an iteration, and after all other hooks, how long it took."""

    priority = 100

    def __init__(self, first: FirstInTurn) -> None:
        self.first = first

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None):
        """Says it."""
        print(f'STEP {time.perf_counter() - self.first.start}', flush=True)


def main(data: str, work_dir: str, hooks: str) -> None:
    """Trains."""
    cfg = Config.fromfile(ROOT / 'configs/mask_rcnn_swin_pico_shapes.py')
    cfg.merge_from_dict(dict(work_dir=work_dir, randomness=dict(seed=0), train_cfg=dict(max_epochs=9, val_interval=99)))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = data
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.pipeline[0].type = 'LoadImageFromFile' if hooks == 'without' else 'swin_mm.LoadImage'
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(Path(data, 'annotations', Path(evaluator.ann_file).name))
    if hooks == 'without':
        cfg.custom_hooks = []
        for name, hook in list(cfg.default_hooks.items()):
            if hook.type.startswith('swin_mm.'):
                if name in MMENGINE:
                    hook.type = MMENGINE[name]
                else:
                    del cfg.default_hooks[name]
    runner = Runner.from_cfg(cfg)
    if hooks == 'with':
        for kind in (ContinuedRun, StopOnSignal):
            if not any(isinstance(hook, kind) for hook in runner.hooks):
                runner.register_hook(kind())
    first = FirstInTurn()
    runner._hooks = [first, *runner._hooks, LastInTurn(first)]
    runner.train()


if __name__ == '__main__':
    main(*sys.argv[1:])
