"""Configs as plain data: read without being run, and checked so that no name in them leads to code.

mmengine and mmcv 2.1 follow names far. A registry that does not know a ``type`` imports it (``Registry.get``), a scope
imports a module ``SCOPE.registry``, the ``type`` of a non-maximum suppression is evaluated (``mmcv.ops.batched_nms``),
and the weights of classes, a teacher's config and the like are files that may hold programs.
"""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

SCOPES = ('mmengine', 'mmdet', 'mmseg', 'swin_mm')
# Texts are names of kinds and modes: without dots and slashes none is a path, an address or a program.
TEXT = re.compile(r'[\w ,:+-]*')
KEY = re.compile(r'\w+')
TYPE = re.compile(r'(?:(\w+)\.)?(\w+)')
# Functions that are looked up in mmcv.ops, not in a registry.
OPS = ('nms', 'soft_nms', 'RoIAlign', 'RoIPool')
IMPORTERS = ('TIMMBackbone',)  # imports what its `norm_layer` names
UNBOUNDED = ('inf', 'nan')


def check_settings(settings: Any, key: str, scope: str) -> None:
    """Raises ValueError, with the place below ``key``, unless ``settings`` are plain data whose types are registered.

    A ``type`` is known to a registry of models, of their parts or of transforms: in the ``scope`` of the config, in
    mmengine's, or in the one of `SCOPES` that it names. Any other text is no path, no address and no program.
    """
    for place, name, value in _leaves(settings, key):
        if name in ('type', '_scope_') and isinstance(value, str):
            known = value in SCOPES if name == '_scope_' else is_registered(value, scope)
            if not known:
                raise ValueError(f'{place} must name a part of {", ".join(SCOPES)}, got {value!r}')
        elif isinstance(name, str) and name.startswith('_'):
            raise ValueError(f'{place}: {name} is for configs that are programs, and this one is data')
        elif isinstance(value, str) and not TEXT.fullmatch(value):
            raise ValueError(f'{place} must be a word, no path, address or program, got {value!r}')
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f'{place} must be plain data, got {type(value).__name__}')


def without_initial_weights(settings: Any) -> Any:
    """Gives a copy of ``settings`` of a model that names no files to start from, and types in their short form."""
    if isinstance(settings, dict):
        kept = {key: value for key, value in settings.items() if key not in ('init_cfg', 'pretrained')}
        return {
            key: _short_type(value) if key == 'type' else without_initial_weights(value) for key, value in kept.items()
        }
    if isinstance(settings, list | tuple):
        return type(settings)(without_initial_weights(item) for item in settings)
    return settings


def to_json(value: Any) -> Any:
    """Gives ``value`` with ``{'tuple': [...]}`` for each tuple, which JSON lacks and mmcv tells from a list."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [to_json(item) for item in value]
        return {'tuple': items} if isinstance(value, tuple) else items
    return value


def from_json(value: Any) -> Any:
    """Gives what `to_json` was given."""
    if isinstance(value, dict):
        if set(value) == {'tuple'} and isinstance(value['tuple'], list):
            return tuple(from_json(item) for item in value['tuple'])
        return {key: from_json(item) for key, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value


def parse(text: str) -> dict[str, Any]:
    """Reads a config as mmengine writes it (``Config.pretty_text``): assignments of plain data, which do not run.

    Raises ValueError for anything else.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, RecursionError) as error:
        raise ValueError(f'is no config as mmengine writes it: {error}') from None
    settings = {}
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                settings[name] = _value(value)
            case _:
                raise ValueError(f'is a program, not plain data, in line {statement.lineno}')
    return settings


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Call(func=ast.Name(id='dict'), args=args, keywords=named) if all(word.arg for word in named):
            merged = {key: value for item in args if isinstance(item, ast.Dict) for key, value in _value(item).items()}
            return merged | {str(word.arg): _value(word.value) for word in named}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.Name(id=name) if name in UNBOUNDED:
            return float(name)
    raise ValueError(f'is a program, not plain data, in line {node.lineno}')


def _leaves(value: Any, place: str, name: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Yields (place, key, value) of everything in ``value`` that is no dict, list or tuple."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not KEY.fullmatch(key):
                raise ValueError(f'{place} must have words as keys, got {key!r}')
            yield from _leaves(item, f'{place}.{key}', key)
    elif isinstance(value, list | tuple) and name != 'type':
        for i, item in enumerate(value):
            yield from _leaves(item, f'{place}.{i}', None)
    else:
        yield place, name, value


def is_registered(kind: str, default_scope: str) -> bool:
    """Whether a ``type`` is the name of a model, a part of one, a transform or a data set, and no module to import."""
    from mmengine.registry import DATASETS, MODELS, TASK_UTILS, TRANSFORMS

    found = TYPE.fullmatch(kind)
    if found is None or found[2] in IMPORTERS:
        return False
    if found[1] is None and found[2] in OPS:
        return True
    scopes = [found[1]] if found[1] else [default_scope, 'mmengine']
    for scope in scopes:
        if scope not in SCOPES:
            return False
        import_module(f'{scope}.registry')
        for root in (MODELS, TASK_UTILS, TRANSFORMS, DATASETS):
            registry = root if scope == 'mmengine' else root.children.get(scope)
            if registry is None:
                continue
            registry.import_from_location()
            if found[2] in registry.module_dict:
                return True
    return False


def _short_type(kind: Any) -> Any:
    """``mmdet.MaskRCNN`` for ``mmdet.models.detectors.mask_rcnn.MaskRCNN``, as ``read_base`` has it."""
    if not isinstance(kind, str) or kind.count('.') < 2:
        return kind
    scope, name = kind.partition('.')[0], kind.rpartition('.')[2]
    return f'{scope}.{name}' if scope in SCOPES else name
