"""Puts a trained model into a folder to share: weights, config, class names and a card with its numbers.

swin-mm pack work_dirs/cats -o cats
swin-mm predict street.jpg cats
"""

import argparse
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .. import __version__
from ..checkpoints.files import read
from ..engine.newest import newest_checkpoint
from ..engine.run_logs import EPOCH, read_curves
from ..errors import CheckpointError, PreflightError, shortlist
from ..inference import Detector, Segmentor
from ..inference.packed import plain_parts, write_packed
from ..inference.plain_config import check_settings, is_registered, parse
from ..recipes import datasets_in, type_name
from . import launch  # noqa: F401  it lets nothing in a file run

TASKS: dict[str, tuple[type[Detector] | type[Segmentor], str]] = {
    'mmdet': (Detector, 'object-detection'),
    'mmseg': (Segmentor, 'image-segmentation'),
}

CARD = """---
library_name: swin_mm
pipeline_tag: {tag}
license:  # yours to say: of the weights, and what the data allow
---

# {name}

{model} with {backbone}, packed by `swin-mm pack` {version}.

```python
import swin_mm

found = swin_mm.{task}('{name}')('street.jpg')[0]  # this folder, or hf://OWNER/NAME
```

## Numbers

{numbers}

## Data

Training images: {train}. Validation images: {val}.

{number} classes: {classes}.

Yours to say: whose images these are, what the model is for, and where it fails.
"""
MEASURED = """{table}

Measured by the training itself, on its own validation images ({val}). Nobody else measured them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Packs as ``argv`` says, None for the command line; raises PreflightError with the reason if it cannot."""
    parser = argparse.ArgumentParser(description='Put a trained model into a folder to share')
    parser.add_argument('run', type=Path, metavar='WORK_DIR', help='folder of a training, or one of its checkpoints')
    parser.add_argument('-o', '--out', type=Path, required=True, metavar='FOLDER', help='a new folder')
    args = parser.parse_args(argv)
    try:
        for path in pack(args.run, args.out):
            print(path)
    except (OSError, ValueError) as error:
        raise PreflightError(str(error)) from error


def pack(run: Path, folder: Path) -> Iterator[Path]:
    """Writes ``folder`` from a work folder or a checkpoint; yields its files. Raises ValueError or OSError.

    The weights are those that a test of the checkpoint loads: averaged ones, if the training kept an average. The
    config is the one in the checkpoint, read as data.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f'-o must be a new folder, or an empty one, got {folder}')
    checkpoint = choose_checkpoint(run) if run.is_dir() else run
    meta = read(checkpoint, mmap=True).get('meta') or {}
    cfg = _config(checkpoint, meta)
    model = TASKS[cfg.default_scope][0](cfg, checkpoint, device='cpu')
    write_packed(folder, cfg, model.model, model.dataset_meta)
    numbers = _numbers(checkpoint.parent, meta)
    counts = {split: _count_images(cfg, f'{split}_dataloader') for split in ('train', 'val')}
    (folder / 'README.md').write_text(_card(folder.resolve().name, cfg, model.classes, numbers, counts))
    yield from sorted(folder.iterdir())


def choose_checkpoint(folder: Path) -> Path:
    """Gives the best checkpoint of a work folder, or the newest; raises ValueError if several are best, or none is."""
    best = sorted(folder.glob('best_*.pth'))
    if len(best) > 1:
        raise ValueError(f'{folder} has several best checkpoints, name one of them: {shortlist(map(str, best))}')
    path, faults = (best[0], []) if best else newest_checkpoint(folder)
    if path is None:
        raise FileNotFoundError(f'{folder} has no checkpoint to pack: {"; ".join(faults) or "no .pth of a training"}')
    return path


def _config(checkpoint: Path, meta: dict[str, Any]) -> Config:
    """The config in a checkpoint, read as data; raises CheckpointError if it is more, or less."""
    try:
        settings = parse(str(meta.get('cfg') or ''))
        scope = settings.get('default_scope')
        if scope not in TASKS:
            raise ValueError(f'must have default_scope {" or ".join(TASKS)}, got {scope}: train with `swin-mm train`')
        cfg = Config(settings)
        for key, part in plain_parts(cfg).items():
            check_settings(part, key, scope)
    except (AttributeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f'{checkpoint}: the config in it cannot be packed, for a packed model is plain data: {error}'
        ) from None
    return cfg


def _numbers(folder: Path, meta: dict[str, Any]) -> dict[str, float]:
    """The metrics that the log of the run in ``folder`` has for the step of a checkpoint; none without a log."""
    try:
        curves = read_curves(folder)
    except FileNotFoundError:
        return {}
    found = {}
    for series, steps in curves.items():
        value = steps.get(meta.get('epoch' if series.unit == EPOCH else 'iter', 0), -1)
        if series.split == 'val' and series.name not in ('data_time', 'time') and value != -1:
            found[series.name] = value  # COCO's -1 says that there are no such objects
    return found


def _count_images(cfg: Config, loader: str) -> int | None:
    """The number of images of a data loader's data sets; None if they are not where the config says."""
    from mmengine.registry import DATASETS

    try:
        datasets = list(datasets_in(cfg[loader].dataset))
        if not all(is_registered(dataset.type, cfg.default_scope) for dataset in datasets):
            return None
        return sum(len(DATASETS.build(dict(copy.deepcopy(dataset), pipeline=[]))) for dataset in datasets)
    except Exception:  # data that are elsewhere, by any reader
        return None


def _card(name: str, cfg: Config, classes: list[str], numbers: dict[str, float], images: dict[str, int | None]) -> str:
    task, tag = TASKS[cfg.default_scope]
    counts = {split: 'not counted, they were elsewhere' if n is None else n for split, n in images.items()}
    rows = [f'| {key} | {value:g} |' for key, value in numbers.items()]
    table = '\n'.join(['| metric | value |', '|---|---|', *rows])
    return CARD.format(
        tag=tag,
        name=name,
        task=task.__name__,
        model=type_name(cfg.model),
        backbone=type_name(cfg.model.get('backbone')),
        version=__version__,
        numbers=MEASURED.format(table=table, **counts) if numbers else 'The log has none for this checkpoint.',
        number=len(classes),
        classes=', '.join(classes),
        **counts,
    )
