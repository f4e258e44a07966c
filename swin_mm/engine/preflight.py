"""Checks before a run: its data and weights are there, its options fit the config and the machine."""

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

from mmengine.config import Config
from mmengine.device import get_device

from ..checkpoints import downloads, hub
from ..errors import PreflightError
from ..recipes import SELF_MADE, datasets_in, settings_within, type_name

SELF_MADE_RECIPES = {'mmdet': 'configs/mask_rcnn_swin_pico_shapes.py', 'mmseg': 'configs/upernet_swin_pico_shapes.py'}
FOLDERS = {'img': 'image folder', 'img_path': 'image folder', 'seg_map_path': 'label folder'}
DOWNLOAD_TIMEOUT = 10  # seconds


def check_mixed_precision(cfg: Config) -> None:
    """Raises PreflightError if mixed precision is asked for without a GPU: mmengine trains it on GPUs only."""
    device = get_device()
    if type_name(cfg.get('optim_wrapper')) == 'AmpOptimWrapper' and device in ('cpu', 'mps'):
        raise PreflightError(
            f'--amp (AmpOptimWrapper) must run on a GPU, got device={device}: leave --amp out, or take a recipe '
            'without AmpOptimWrapper'
        )


def check_strategy(cfg: Config) -> None:
    """Raises PreflightError if FSDP is to save sharded checkpoints: no run could go on from them."""
    strategy = cfg.get('strategy') or {}
    kind = strategy.get('state_dict_cfg', 'local')
    if type_name(strategy) == 'FSDPStrategy' and kind != 'full':
        raise PreflightError(
            f"strategy.state_dict_cfg must be 'full' under FSDPStrategy, got {kind!r}: it saves the whole model in one "
            "file, which --resume finds and checks; mmengine's default saves a folder with a file for each process"
        )


def check_inputs(cfg: Config, training: bool) -> None:
    """Raises a PreflightError that lists all missing files of a training or test of ``cfg``, and says what helps.

    Paths are relative to the working directory. Files behind a storage backend (``backend_args``, ``s3://``) are not
    checked. A URL counts as missing if it is neither in the cache nor reachable.
    """
    data: dict[str, str] = {}
    for file, setting in _missing_data(cfg, ('train', 'val') if training else ('test',)):
        data.setdefault(file, setting)
    weights = list(_missing_weights(cfg, initial=training))
    if not data and not weights:
        return
    lines = ['this run cannot start, missing:']
    lines += [f'  {file} ({setting})' for file, setting in data.items()] + [f'  {file}' for file, _ in weights]
    lines.append(f'Relative paths start at the working directory, {Path.cwd()}.')
    if data:
        lines.append('Data: put it there, or say where it is with --cfg-options data_root=FOLDER')
        recipe = SELF_MADE_RECIPES.get(cfg.get('default_scope'), SELF_MADE_RECIPES['mmdet'])
        lines.append(f'      or take {recipe}, whose pictures are drawn on the spot')
    lines += [f'Weights: {advice}' for _, advice in weights]
    raise PreflightError('\n'.join(lines))


def check_label_classes(cfg: Config) -> None:
    """Raises PreflightError if ``swin_mm.LoadLabels`` allows another number of classes than the model predicts.

    Only models with a ``decode_head`` learn from label maps. It may stand inside a wrapper, such as a ``tta_model``.
    """
    parts = settings_within(cfg.get('model') or {}, 'model')
    heads = [(f'{key}.decode_head', part['decode_head']) for key, part in parts if part.get('decode_head')]
    place, head = heads[0] if heads else ('', {})
    if isinstance(head, list | tuple):
        head = head[-1]
    predicted = head.get('num_classes')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for key, step in settings_within(cfg.get(loader) or {}, loader):
            if type_name(step) == 'LoadLabels' and predicted is not None and step.get('num_classes') != predicted:
                raise PreflightError(
                    f'num_classes must be that of the data set everywhere, got {step.get("num_classes")} in {key} '
                    f'(LoadLabels) and {predicted} in {place}'
                )


def batch_advice(cfg: Config, world_size: int) -> str | None:
    """Gives one line if the learning rate was chosen for another batch size than this run's; None if not, or unknown.

    The linear rule comes from mmengine's `Runner.scale_lr`, which ignores gradient accumulation; in training it counts.
    """
    scale = cfg.get('auto_scale_lr') or {}
    base, images = scale.get('base_batch_size'), cfg.train_dataloader.get('batch_size')
    lr = cfg.optim_wrapper.get('optimizer', {}).get('lr')
    if scale.get('enable') or base is None or images is None or lr is None:
        return None
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch = world_size * images * accumulated
    if batch == base:
        return None
    return (
        f'The batch size is {batch} ({world_size} processes x {images} images x {accumulated} accumulated), but '
        f'lr={lr} was chosen for {base}. The linear rule: '
        f'--cfg-options optim_wrapper.optimizer.lr={lr * batch / base:.3g}, or --auto-scale-lr'
    )


def _missing_data(cfg: Config, loops: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yields (missing file, setting that names it)."""
    self_made_folders = []
    for loop in loops:
        if cfg.get(f'{loop}_cfg') is None:
            continue
        loader, evaluator = f'{loop}_dataloader', f'{loop}_evaluator'
        for dataset in datasets_in((cfg.get(loader) or {}).get('dataset') or {}):
            if type_name(dataset) in SELF_MADE:
                # Without a root nothing is drawn, and every path would begin with it.
                self_made_folders += [os.path.join(root, '') for root in [dataset.get('data_root')] if root]
            elif not dataset.get('backend_args'):
                yield from ((file, loader) for file in _missing_in(dataset))
        metrics = cfg.get(evaluator) or {}
        if not isinstance(metrics, list | tuple):
            metrics = [metrics]
        for metric in metrics:
            path = metric.get('ann_file')
            if not path or metric.get('backend_args') or path.startswith(tuple(self_made_folders)):
                continue
            if not _exists(path):
                yield f'annotation file {path}', evaluator


def _missing_in(dataset: dict) -> Iterator[str]:
    """Yields what ``dataset`` misses; relative paths start at ``data_root``, as in ``BaseDataset._join_prefix``."""
    root = dataset.get('data_root') or ''
    if dataset.get('ann_file'):
        path = os.path.join(root, dataset['ann_file'])
        if not _exists(path):
            yield f'annotation file {path}'
    for kind, prefix in (dataset.get('data_prefix') or {}).items():
        path = os.path.join(root, prefix or '')
        if not path or '://' in path:
            continue
        name = FOLDERS.get(kind, f'{kind} folder')
        if not os.path.isdir(path):
            yield f'{name} {path}'
        elif not os.listdir(path):
            yield f'{name} {path}, which is empty'


def _exists(path: str) -> bool:
    return '://' in path or os.path.exists(os.path.expanduser(path))


def _missing_weights(cfg: Config, initial: bool) -> Iterator[tuple[str, str]]:
    """Yields (what is missing, what to do) for the checkpoint to load; if ``initial``, also for the initial weights."""
    wanted = []
    if cfg.get('load_from'):
        wanted.append(('checkpoint', cfg.load_from, 'or name another file'))
    if initial:
        for key, source in _pretrained(cfg.get('model') or {}):
            wanted.append((f'weights of {key}:', source, f'or start from random ones with --cfg-options {key}=None'))
    for what, source, advice in wanted:
        if hub.is_hub(source):
            try:
                hub.fetch(source)
            except (OSError, ValueError) as error:
                yield f'{what} {error}', f'put a file somewhere and name its path, {advice}'
            continue
        if not downloads.is_url(source):
            if not _exists(source):
                yield f'{what} {source}', f'put the file at {source}, {advice}'
            continue
        target = downloads.cached(source)
        reason = None if target.is_file() else _unreachable(source)
        if reason:
            yield f'{what} {source} ({reason})', f'put the downloaded file at {target}, {advice}'


def _pretrained(model: dict) -> Iterator[tuple[str, str]]:
    """Yields (option, path or URL) of all weights that the modules of ``model`` start from."""
    for key, part in settings_within(model, 'model'):
        if type_name(part) in ('Pretrained', 'PretrainedInit') and isinstance(part.get('checkpoint'), str):
            yield key, part['checkpoint']
        if isinstance(part.get('pretrained'), str):
            yield f'{key}.pretrained', part['pretrained']


def _unreachable(url: str) -> str | None:
    """Says why ``url`` cannot be downloaded; None if it seems that it can."""
    request = urllib.request.Request(url, method='HEAD')
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT):
            return None
    except HTTPError as error:
        # Some servers refuse HEAD and serve GET, so only "not there" is final.
        return f'the server says {error.code} {error.reason}' if error.code in (404, 410) else None
    except (URLError, OSError) as error:
        return f'not reachable: {getattr(error, "reason", error)}'
