"""Finds configs and presets by name, and walks through their settings and changes them."""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from .errors import PreflightError

SCOPES = ('mmdet', 'mmseg')  # settings of a preset under such a key are for recipes of that scope
# These data sets write their files on first use, so none can be missing.
SELF_MADE = ('ShapesDataset', 'HeatShapesDataset', 'ShapesSegDataset')
_PACKAGE = Path(__file__).resolve().parent
_CLONE, _WHEEL = _PACKAGE.parent / 'configs', _PACKAGE / '.mim' / 'configs'  # in a wheel where mmengine looks


def recipes_folder() -> Path:
    """The folder of our recipes: ``configs/`` of the clone, or the copy in the wheel."""
    return _WHEEL if _WHEEL.is_dir() else _CLONE


def known_recipes() -> list[Path]:
    """Every recipe, by name; the official repositories' file names, in ``swin/``, are not repeated."""
    return sorted(recipes_folder().glob('*.py'))


def short_name(path: str | os.PathLike) -> str:
    """Gives what `find_config` takes from any folder: a recipe's bare name, any other config's path."""
    path = Path(path)
    return path.stem if path.resolve().is_relative_to(recipes_folder()) else str(path)


def recipe_of(path: str | os.PathLike) -> Path | None:
    """Gives the recipe that a config is, also under an official file name in ``swin/``; None for any other config.

    A copy counts, such as that of a clone beside an installed package; a changed one does not.
    """
    path = Path(path)
    for folder in (recipes_folder(), recipes_folder() / 'swin'):
        ours = folder / path.name
        if ours.is_file() and path.is_file() and ours.read_bytes() == path.read_bytes():
            stands_for = re.search(r"^_base_ = '\.\./(\w+\.py)'$", ours.read_text(), re.MULTILINE)
            return recipes_folder() / stands_for[1] if stands_for else ours
    return None


def find_config(name: str | os.PathLike) -> Path:
    """The config that ``name`` means: a path, a file name, or the bare name of a recipe, such as ``mask_rcnn_swin_t``.

    Looks in the working directory and its ``configs/``, then among our recipes. Raises PreflightError, with the
    nearest names, if there is none.
    """
    given = Path(name)
    try:
        if found := next((path for path in _candidates(given.expanduser()) if path.is_file()), None):
            return found
    except (OSError, RuntimeError):
        pass  # a name that is too long, or the home of nobody: no file can have it
    raise PreflightError(f'config {given} was found neither in {Path.cwd()} nor among the recipes{_nearest(given)}')


def _candidates(given: Path) -> Iterator[Path]:
    """Yields the paths that ``given`` may mean, the first choice first."""
    if not given.name:
        return
    # A path as the README has it, configs/NAME.py, is found from anywhere.
    inside = given.relative_to('configs') if given.parts[:1] == ('configs',) else given
    recipes = recipes_folder()
    for place in (given, Path('configs') / given, recipes / inside, recipes / 'swin' / inside):
        yield place
        yield place.parent / f'{place.name}.py'


def _nearest(given: Path) -> str:
    """The recipes that ``given`` may have been meant to name, as the end of a sentence."""
    names = {path.stem: path for path in [*known_recipes(), *recipes_folder().glob('swin/*.py')]}
    near = difflib.get_close_matches(given.name.removesuffix('.py'), names, n=3, cutoff=0.5)
    return f': did you mean {" or ".join(near)}?' if near else ' (`swin-mm recipes` lists them)'


def datasets_in(dataset: Any) -> Iterator[Any]:
    """Yields the data sets inside RepeatDataset, ConcatDataset and other wrappers, as settings or as built."""
    wrapped, several = _part(dataset, 'dataset'), _part(dataset, 'datasets')
    if wrapped is not None:
        yield from datasets_in(wrapped)
    elif several is not None:
        for item in several:
            yield from datasets_in(item)
    else:
        yield dataset


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


def image_channels(model: dict) -> int:
    """The channels of the images that a config's ``model`` takes: ``in_channels`` of its first backbone, or else 3."""
    backbone: dict = next((part['backbone'] for _, part in settings_within(model, 'model') if part.get('backbone')), {})
    return backbone.get('in_channels') or backbone.get('in_chans') or 3


def type_name(settings: dict | None) -> str:
    """The name of the class that ``settings`` build, without scope or module; '' if they name none.

    Text configs name it, 'mmdet.LoadAnnotations'; configs in Python's own syntax (``read_base``) hold the class.
    """
    kind = (settings or {}).get('type')
    if kind is None or isinstance(kind, str):
        return (kind or '').rpartition('.')[2]
    return getattr(kind, '__name__', '')


def move_data_root(cfg: Config, data_root: str) -> None:
    """Lets every path of a data set or evaluator in ``cfg`` that begins with the old ``data_root`` begin with the new.

    mmengine joins the variable into other settings while it reads the file, so changing it alone changes nothing.
    Where neither ``cfg`` nor a data set has a ``data_root``, relative paths begin with the new one.
    Raises PreflightError if no such path is there.
    """
    old = cfg.get('data_root')
    moved: list[str] = []
    if not old:
        _start_at(data_root, cfg, moved)
    elif isinstance(old, str):
        for key in [k for k in cfg if k.endswith(('_dataloader', '_evaluator'))]:
            cfg[key] = _move(cfg[key], old.rstrip('/'), data_root, moved)
    if not moved:
        raise PreflightError(
            f'data_root={data_root} has nothing to replace: no path of a data set in {cfg.filename} begins with '
            f'its data_root={old}; set train_dataloader.dataset.data_root and its like'
        )
    cfg.data_root = data_root


def _start_at(root: str, cfg: Config, moved: list[str]) -> None:
    """Lets relative paths of data sets and evaluators begin with ``root``; notes it, or each path of an evaluator.

    Does nothing if a data set has a ``data_root`` of its own: half of the data would stay where they are.
    """
    loaders = [cfg[key] for key in cfg if key.endswith('_dataloader') and cfg[key]]
    datasets = [dataset for loader in loaders for dataset in datasets_in(loader['dataset'])]
    if any(dataset.get('data_root') for dataset in datasets):
        return
    for dataset in datasets:
        paths = [dataset.get('ann_file'), *(dataset.get('data_prefix') or {}).values()]
        if any(path and not os.path.isabs(path) for path in paths):
            dataset['data_root'] = root  # mmengine joins them
            moved.append(root)
    for key in [k for k in cfg if k.endswith('_evaluator')]:
        for _, metric in settings_within(cfg[key], key):
            for name in ('ann_file', 'seg_prefix'):
                # As in `_move`, a dict may stand in several places.
                if metric.get(name) and metric[name] not in moved:
                    metric[name] = os.path.join(root, metric[name])
                    moved.append(metric[name])


def _move(value: Any, old: str, new: str, moved: list[str]) -> Any:
    """Gives ``value`` with paths below ``new`` for those below ``old``, dicts and lists in place; notes each path.

    Everything else stays the same object: a config in Python's own syntax holds stand-ins for classes.
    """
    if isinstance(value, dict):
        for key in value:
            dict.__setitem__(value, key, _move(dict.__getitem__(value, key), old, new, moved))
    elif isinstance(value, list):
        value[:] = [_move(item, old, new, moved) for item in value]
    elif isinstance(value, tuple):
        return type(value)(_move(item, old, new, moved) for item in value)
    elif isinstance(value, str) and value not in moved and f'{value}/'.startswith(f'{old}/'):
        # Dicts may stand in several places: what was moved once is not moved again.
        moved.append(os.path.join(new, value[len(old) :].lstrip('/')))
        return moved[-1]
    return value


def known_presets() -> list[Path]:
    """Every preset, by name."""
    return sorted(recipes_folder().glob('_base_/presets/*.py'))


def apply_presets(cfg: Config) -> None:
    """Merges over ``cfg`` the presets that its key ``presets`` names, in their order, and removes the key.

    Lists are joined, everything else is replaced. Raises PreflightError for a name without a file.
    """
    names = cfg.pop('presets', None) or []
    known = {path.stem: path for path in known_presets()}
    for name in [names] if isinstance(names, str) else names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f': did you mean {near[0]}?' if near else ''
            raise PreflightError(f'preset {name} is none of {", ".join(known)}{hint}')
        preset = Config.fromfile(known[name]).to_dict()
        by_scope = {scope: preset.pop(scope, {}) for scope in SCOPES}
        for settings in (preset, by_scope.get(cfg.get('default_scope'), {})):
            _merge(cfg, settings)


def _merge(target: Any, settings: dict) -> None:
    for key, value in settings.items():
        old = target.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            target[key] = old + [item for item in value if item not in old]
        else:
            target[key] = ConfigDict(value) if isinstance(value, dict) else value
