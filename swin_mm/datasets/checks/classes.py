"""Checks the classes of a config against the categories of a COCO file, the heads of the model, and the objects."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import shortlist
from ...recipes import settings_within
from .columns import CocoColumns
from .findings import Findings

FEW_OBJECTS = 10
NAMES_SHOWN = 12
# Their num_classes count other things: objectness, and the stuff of HTC's semantic branch.
OTHER_HEADS = ('backbone', 'rpn_head', 'semantic_head', 'fused_semantic_head')


def check_names(classes: Any, found: Findings) -> bool:
    """Checks that ``classes`` of a data set's ``metainfo`` are names; False if they are none."""
    if isinstance(classes, str):
        sentence = f'classes must be a tuple of names, got the string {classes!r}: write classes=({classes!r},)'
        found.add('error', 'classes-string', sentence)
        return False
    if not classes:
        found.add('error', 'classes-missing', 'metainfo must name the classes, got none: metainfo=dict(classes=(...))')
    return bool(classes)


def check_classes(classes: Any, coco: CocoColumns, found: Findings) -> bool:
    """Checks ``classes`` of a data set's ``metainfo`` against the categories; False if they decide nothing further."""
    if not check_names(classes, found):
        return False
    broken = [item for item in coco.categories if not _is_whole(item)]
    if broken:
        found.add('error', 'category-keys', 'categories need an id and a name', map(str, broken), len(broken))
        return False
    _check_order(classes, [item['name'] for item in coco.categories], found)
    return True


def check_number(classes: Any, coco: CocoColumns, found: Findings) -> list[str]:
    """Checks that ``classes`` of LVIS are as many as its categories; gives the names of these, which are the labels."""
    names = [item['name'] for item in coco.categories if _is_whole(item)]
    if len(classes or ()) != len(names):
        sentence = (
            f'metainfo has {len(classes or ())} classes, and the file {len(names)} categories: mmdet takes all of them '
            'for the classes of LVIS'
        )
        found.add('error', 'class-names', sentence)
    return names


def _check_order(classes: Sequence[str], names: Sequence[str], found: Findings) -> None:
    """Checks ``classes`` of ``metainfo`` against the ``names`` of a file.

    mmdet numbers the classes as the file lists them, whatever their order in ``metainfo``
    (``CocoDataset.load_data_list``).
    """
    if missing := [name for name in classes if name not in names]:
        sentence = (
            f'classes of metainfo are not in the file, so other objects get their labels or none does: metainfo has '
            f'{shortlist(map(repr, classes), NAMES_SHOWN)}; the file has {shortlist(map(repr, names), NAMES_SHOWN)}. '
            'Write them as the file does'
        )
        found.add('error', 'class-names', sentence, map(repr, missing), len(missing))
    twice = {name for group in (names, classes) for name, count in Counter(group).items() if count > 1}
    repeated = [name for name in dict.fromkeys(classes) if name in twice]
    sentence = 'classes stand twice in metainfo or in the file, so there are more labels than names'
    found.add('error', 'duplicate-class', sentence, map(repr, repeated), len(repeated))
    used = [name for name in names if name in classes]
    if not missing and not repeated and used != list(classes):
        sentence = (
            'metainfo has the classes in another order than the file, and mmdet numbers them as the file does, so '
            f'results would be named wrongly: take the order of the file, {shortlist(map(repr, used), NAMES_SHOWN)}'
        )
        swapped = [
            f'{mine!r} where the file has {its!r}' for mine, its in zip(classes, used, strict=True) if mine != its
        ]
        found.add('error', 'class-order', sentence, swapped, len(swapped))
    extra = [name for name in names if name not in classes]
    found.add('note', 'unused-categories', 'categories of the file are in no class', map(repr, extra), len(extra))


def _is_whole(category: Any) -> bool:
    return (
        isinstance(category, dict)
        and isinstance(category.get('id'), int | str)
        and isinstance(category.get('name'), str)
    )


def check_counts(classes: Sequence[str], coco: CocoColumns, train: bool, test: bool, found: Findings) -> None:
    """Says whether mmdet finds images and objects of ``classes`` at all, and in training ten of each class."""
    if not coco.images:
        found.add('error', 'empty', 'the file has no images')
        return
    usable = (coco.number('width') >= 1) & (coco.number('height') >= 1) & (coco.number('area') > 0)
    usable &= (coco.number('crowd') == 0) & (coco.number('ignored') == 0)
    names = {item['id']: item['name'] for item in coco.categories}
    totals = Counter(names.get(key) for key, ok in zip(coco.category_ids, usable.tolist(), strict=True) if ok)
    if not any(totals[name] for name in classes):
        severity = 'note' if test else 'error'
        found.add(
            severity, 'empty', 'the file has no object of the classes: no box of a pixel or more that is no crowd'
        )
    elif train:
        few = [name for name in classes if totals[name] < FEW_OBJECTS]
        shown = (f'{name!r}: {totals[name]}' for name in few)
        found.add(
            'warning', 'few-objects', f'classes have fewer than {FEW_OBJECTS} objects to learn from', shown, len(few)
        )


def check_heads(model: dict, classes: Sequence[str], found: Findings) -> None:
    """Checks that every head of ``model`` predicts as many classes as the data set has names."""
    wrong = [f'model.{key}={count}' for key, count in _class_counts(model) if count != len(classes)]
    sentence = (
        f'heads predict another number of classes than the {len(classes)} of the data: set them to {len(classes)}'
    )
    found.add('error', 'num-classes', sentence, wrong, len(wrong))


def _class_counts(model: dict) -> Iterator[tuple[str, int]]:
    for key, part in settings_within(model, ''):
        if set(key.split('.')) & set(OTHER_HEADS):
            continue
        for name in ('num_classes', 'num_things_classes'):
            if isinstance(part.get(name), int):
                yield f'{key}.{name}'.lstrip('.'), part[name]
