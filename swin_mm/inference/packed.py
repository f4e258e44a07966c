"""A trained model as a folder to share: weights and a config that is plain data, so that nothing in it runs.

``model.safetensors`` holds the weights, ``swin_mm.json`` the model, the test pipeline, class names and colours.
"""

import json
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoints import hub
from ..checkpoints.hub import WEIGHTS
from ..checkpoints.whole_file import whole_file
from ..checkpoints.write import write
from ..recipes import datasets_in
from .plain_config import check_settings, from_json, to_json, without_initial_weights

CONFIG, FORMAT = 'swin_mm.json', 1
KEYS = {'format', 'default_scope', 'classes', 'palette', 'model', 'test_pipeline'}
DATASETS = {'mmdet': 'BaseDetDataset', 'mmseg': 'BaseSegDataset'}  # they have names and colours, and no others


def is_packed(name: str | os.PathLike) -> bool:
    """Whether ``name`` is a folder with a packed model, or an address of the Hub, which may have one."""
    return hub.is_hub(name) or (Path(name).expanduser() / CONFIG).is_file()


def read_packed(name: str | os.PathLike) -> tuple[Config, Path]:
    """Gives the config and the file of weights of a packed model: a folder, or ``hf://owner/name[@revision]``.

    The config is data: see `check_settings`. Raises ValueError if it is none, OSError if it cannot be had.
    """
    if hub.is_hub(name):
        if hub.parse(os.fspath(name)).file is not None:
            raise ValueError(
                f'{name} is a file: a packed model is a repository, and for weights name a config before them'
            )
        try:
            path = hub.fetch_file(os.fspath(name), CONFIG)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'{error}, so it is no packed model: name a config before it, as in mask_rcnn_swin_t {name}'
            ) from None
        weights = hub.fetch_file(os.fspath(name), WEIGHTS)
    else:
        path = Path(name).expanduser() / CONFIG
        weights = path.with_name(WEIGHTS)
        if not weights.is_file():
            raise FileNotFoundError(f'{weights}: no such file, and {CONFIG} beside it is its config')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        _check(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} {error}') from None
    dataset = dict(
        type=DATASETS[content['default_scope']],
        metainfo=_names_and_colours(content),
        pipeline=from_json(content['test_pipeline']),
    )
    settings = dict(
        default_scope=content['default_scope'],
        model=from_json(content['model']),
        test_dataloader=dict(dataset=dataset),
    )
    return Config(settings, filename=path), weights


def write_packed(folder: Path, cfg: Config, model: Any, meta: dict[str, Any]) -> None:
    """Writes ``model``, built of ``cfg``, into ``folder``; ``meta`` has its ``classes`` and ``palette``.

    Raises ValueError, before it writes, for a config that `read_packed` would refuse; OSError if it cannot be written.
    """
    plain = plain_parts(cfg)
    palette = meta['palette']
    content = dict(
        format=FORMAT,
        default_scope=cfg.default_scope,
        classes=list(meta['classes']),
        palette=None if isinstance(palette, str) else [list(colour) for colour in palette],
        **{key: to_json(part) for key, part in plain.items()},
    )
    _check(content)
    write(folder / WEIGHTS, model.state_dict())
    with whole_file(folder / CONFIG) as partial:
        partial.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def plain_parts(cfg: Config) -> dict[str, Any]:
    """Gives what a prediction needs of a config, ``model`` and ``test_pipeline``, without files to start from."""
    settings = cfg.to_dict()
    pipeline = next(datasets_in(settings['test_dataloader']['dataset']))['pipeline']
    return dict(model=without_initial_weights(settings['model']), test_pipeline=without_initial_weights(pipeline))


def _check(content: Any) -> None:
    """Raises ValueError unless ``content`` is that of a packed model; its beginning continues the name of the file."""
    if not isinstance(content, dict) or set(content) != KEYS:
        keys = sorted(set(content) ^ KEYS) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f'must have the keys {", ".join(sorted(KEYS))} and no others, too few or too many: {keys}')
    if content['format'] != FORMAT:
        raise ValueError(f'must have format {FORMAT}, got {content["format"]}: update swin-mm')
    scope, classes, palette = (content[key] for key in ('default_scope', 'classes', 'palette'))
    if scope not in DATASETS:
        raise ValueError(f'must have default_scope mmdet or mmseg, got {scope!r}')
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f'must have classes as a list of names, got {classes!r:.80}')
    if palette is not None and not (isinstance(palette, list) and all(map(_is_colour, palette))):
        raise ValueError(f'must have a palette of lists of 3 numbers, or none, got {palette!r:.80}')
    for key, kind in (('model', dict), ('test_pipeline', list)):
        if not isinstance(content[key], kind) or not content[key]:
            raise ValueError(f'must have {key} as a {kind.__name__}, got {content[key]!r:.80}')
        check_settings(from_json(content[key]), key, scope)


def _names_and_colours(content: dict[str, Any]) -> dict[str, Any]:
    names = dict(classes=tuple(content['classes']))
    colours = content['palette']
    return dict(names, palette=[tuple(colour) for colour in colours]) if colours else names  # drawn only as tuples


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(part, int) for part in value)
