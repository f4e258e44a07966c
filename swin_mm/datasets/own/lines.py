"""Writes lines of a config: heads, classes, paths, the learning rate."""

import textwrap
from pathlib import Path
from typing import Any

from mmengine.config import Config

WIDTH = 120  # characters of a line


def model_settings(model: Config, classes: int, *more: str) -> str:
    """The lines that give each head of ``model`` the number of classes, and ``more`` arguments of ``model``."""
    lists: list[str] = []
    settings = _head_settings(model, classes, '_base_.model', lists)
    return '\n'.join([*lists, call('model = dict', [*more, *settings])])


def _head_settings(settings: Any, classes: int, place: str, lists: list[str]) -> list[str]:
    """The settings of heads that depend on the number of classes, as arguments of ``dict``.

    A list of heads, which a config can only replace as a whole, gets a line of its own in ``lists``.
    """
    found = []
    if {'num_classes', 'num_things_classes'} & settings.keys():
        name = 'num_classes' if 'num_classes' in settings else 'num_things_classes'
        found.append(f'{name}={classes}')
        weights = (settings.get('loss_cls') or {}).get('class_weight')
        if weights:  # the last is of no object
            found.append(f'loss_cls=dict(class_weight=[{weights[0]}] * {classes} + [{weights[-1]}])')
    for key, value in settings.items():
        inner = f'{place}.{key}'
        if isinstance(value, dict) and (arguments := _head_settings(value, classes, inner, lists)):
            found.append(f'{key}=dict({", ".join(arguments)})')
        elif isinstance(value, list) and value and all(isinstance(v, dict) and 'num_classes' in v for v in value):
            lists.append(f'{key} = [dict(head, num_classes={classes}) for head in {inner}]')
            found.append(f'{key}={key}')
    return found


def call(function: str, arguments: list[str]) -> str:
    """Writes a call as ruff formats it: on one line, else all arguments on the second, else a line each."""
    inner = ', '.join(arguments)
    if len(f'{function}({inner})') <= WIDTH:
        return f'{function}({inner})'
    lines = [inner] if len(inner) + 4 <= WIDTH else [f'{argument},' for argument in arguments]
    return '\n'.join([f'{function}(', *(f'    {line}' for line in lines), ')'])


def class_tuple(classes: list[str]) -> str:
    text = repr(tuple(classes))
    return text if len(text) < 100 else textwrap.fill(text, 116, subsequent_indent='    ', break_on_hyphens=False)


def made_folder(folder: Path) -> str:
    """The line that names the folder of the files that `init` makes."""
    return f'made = {f"{folder.resolve().as_posix()}/"!r}\n'


def seen_from(root: Path, path: Path) -> str:
    """``path`` below ``root`` if it is there, or else the whole path."""
    path = path.resolve()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def rate(cfg: Config) -> str:
    """Says which learning rate a run gets by ``auto_scale_lr``."""
    lr, base = cfg.optim_wrapper.optimizer.lr, cfg.auto_scale_lr.base_batch_size
    batch = cfg.train_dataloader.batch_size
    return f'{lr:g} is for {base} images a step; {batch} images in one process get {lr * batch / base:.3g}'
