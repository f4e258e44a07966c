"""Finds configs by name, and walks through their settings and changes them."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .errors import PreflightError

_PACKAGE = Path(__file__).resolve().parent
_CLONE, _WHEEL = _PACKAGE.parent / 'configs', _PACKAGE / '.mim' / 'configs'  # in a wheel where mmengine looks


def recipes_folder() -> Path:
    """The folder of our recipes: ``configs/`` of the clone, or the copy in the wheel."""
    return _CLONE if (_CLONE / '_base_').is_dir() else _WHEEL


def known_recipes() -> list[Path]:
    """Every recipe, by name; the official repositories' file names, in ``swin/``, are not repeated."""
    return sorted(recipes_folder().glob('*.py'))


def short_name(path: str | os.PathLike) -> str:
    """The name by which `find_config` finds ``path`` from anywhere: a recipe's own, for any other config its path."""
    path = Path(path)
    return path.stem if path.is_relative_to(recipes_folder()) else str(path)


def find_config(name: str | os.PathLike) -> Path:
    """The config that ``name`` means: a path, a file name, or the bare name of a recipe, such as ``mask_rcnn_swin_t``.

    Looks in the working directory and its ``configs/``, then among our recipes. Raises PreflightError, with the
    nearest names, if there is none.
    """
    given = Path(name).expanduser()
    # A path as the README has it, configs/NAME.py, is found from anywhere.
    inside = given.relative_to('configs') if given.parts[:1] == ('configs',) else given
    recipes = recipes_folder()
    places = [given, Path('configs') / given, recipes / inside, recipes / 'swin' / inside]
    for place in places:
        for candidate in (place, place.parent / f'{place.name}.py'):
            if candidate.is_file():
                return candidate
    raise PreflightError(f'config {given} was found neither in {Path.cwd()} nor among the recipes{_nearest(given)}')


def _nearest(given: Path) -> str:
    """The recipes that ``given`` may have been meant to name, as the end of a sentence."""
    names = {path.stem: path for path in [*known_recipes(), *recipes_folder().glob('swin/*.py')]}
    near = difflib.get_close_matches(given.name.removesuffix('.py'), names, n=3, cutoff=0.5)
    return f': did you mean {" or ".join(near)}?' if near else ' (`swin-mm recipes` lists them)'


def datasets_in(dataset: Any) -> Iterator[Any]:
    """The data sets inside RepeatDataset, ConcatDataset and other wrappers, of settings or of built data sets."""
    inside = [_part(dataset, 'dataset')] if _part(dataset, 'dataset') is not None else _part(dataset, 'datasets')
    if inside is None:
        yield dataset
    for item in inside or []:
        yield from datasets_in(item)


def _part(dataset: Any, name: str) -> Any:
    return dataset.get(name) if isinstance(dataset, dict) else getattr(dataset, name, None)


def settings_within(settings: Any, key: str) -> Iterator[tuple[str, dict]]:
    """(option, dict) for ``settings``, which the option ``key`` names, and for every dict in it, at any depth."""
    if isinstance(settings, dict):
        yield key, settings
        for name in settings:  # not items(), which in a config in Python's own syntax gives stand-ins for classes
            yield from settings_within(settings[name], f'{key}.{name}')
    elif isinstance(settings, list | tuple):
        for i, item in enumerate(settings):
            yield from settings_within(item, f'{key}.{i}')


def type_name(settings: dict | None) -> str:
    """The name of the class that ``settings`` build, without scope or module; '' if they name none.

    Text configs name it, 'mmdet.LoadAnnotations'; configs in Python's own syntax (``read_base``) hold the class.
    """
    kind = (settings or {}).get('type')
    if kind is None or isinstance(kind, str):
        return (kind or '').rpartition('.')[2]
    return kind.__name__


def move_data_root(cfg: Config, data_root: str) -> None:
    """Lets every path of a data set or evaluator in ``cfg`` that begins with the old ``data_root`` begin with the new.

    mmengine joins the variable into other settings while it reads the file, so changing it alone changes nothing.
    Raises PreflightError if no such path is there.
    """
    old = cfg.get('data_root')
    moved = []

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return type(value)({key: move(item) for key, item in value.items()})
        if isinstance(value, list | tuple):
            return type(value)(move(item) for item in value)
        if isinstance(value, str) and f'{value}/'.startswith(old.rstrip('/') + '/'):
            moved.append(value)
            return os.path.join(data_root, value[len(old.rstrip('/')) :].lstrip('/'))
        return value

    if isinstance(old, str):
        for key in [k for k in cfg if k.endswith(('_dataloader', '_evaluator'))]:
            cfg[key] = move(cfg[key])
    if not moved:
        raise PreflightError(
            f'data_root={data_root} has nothing to replace: no path of a data set in {cfg.filename} begins with '
            f'its data_root={old}; set train_dataloader.dataset.data_root and its like'
        )
    cfg.data_root = data_root
