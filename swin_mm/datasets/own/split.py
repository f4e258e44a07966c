"""Sets images apart for validation, the same ones each time, and mends what is not ready to be trained on."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import PreflightError, shortlist
from .coco import Part, check_sizes, mend

SHARE = 0.2  # of the images, if there is one file for all


def prepare(parts: dict[str, Part], folder: Path) -> tuple[dict[str, Part], list[str]]:
    """Gives a part to train on and one to validate, ready for mmdet, and the classes, in the order of the labels.

    A single part is split. What is split or mended is for `Part.save` to write to ``folder``, as train.json and
    val.json. Raises PreflightError if both parts have an image, or list the classes in different orders.
    """
    for name, part in parts.items():
        if mend(part):
            parts[name] = Part(folder / f'{name}.json', part.images, part.content, unwritten=True)
        check_sizes(part)
    if 'val' not in parts:
        parts = _split(parts['train'], folder)
    both = set(parts['train'].files()) & set(parts['val'].files())
    if both:
        raise PreflightError(
            f'{parts["train"].path} and {parts["val"].path} must not share images, got {shortlist(map(str, both))}'
        )
    return parts, _classes(parts)


def _split(part: Part, folder: Path) -> dict[str, Part]:
    images = part.content['images']
    found: dict[Any, set] = {image['id']: set() for image in images}
    for annotation in part.content['annotations']:
        found[annotation['image_id']].add(annotation['category_id'])
    held = held_out({image['file_name']: found[image['id']] for image in images}, str(part.path))
    parts = {}
    for name, wanted in (('train', False), ('val', True)):
        chosen = [image for image in images if (image['file_name'] in held) == wanted]
        ids = {image['id'] for image in chosen}
        annotations = [found for found in part.content['annotations'] if found['image_id'] in ids]
        if not annotations:
            raise PreflightError(f'{part.path} was split, and no image to {name} on has an annotation: annotate more')
        content = dict(part.content, images=chosen, annotations=annotations)
        parts[name] = Part(folder / f'{name}.json', part.images, content, unwritten=True)
    return parts


def held_out(classes: Mapping[str, Iterable[Any]], where: str) -> set[str]:
    """Chooses a fifth of the images, given the classes in each: the same ones on any machine, in any order.

    Each class, the rarest first, gets one image to validate on if another is left to train on. The rest are those whose
    names have the lowest hashes. Copies that Roboflow's augmentation makes of one image (NAME.rf.HASH.jpg) stay
    together. Raises PreflightError, which names ``where`` they are from, if there are not two images.
    """
    found: defaultdict[str, set] = defaultdict(set)
    for name, labels in classes.items():
        found[_source(name)] |= set(labels)
    if len(found) < 2:
        raise PreflightError(f'{where} must have two different images at least, to train on and to validate')
    groups = {source: found[source] for source in sorted(found, key=_hash)}
    held = _choose(groups) or {next(iter(groups))}
    return {name for name in classes if _source(name) in held}


def _choose(groups: dict[str, set]) -> set[str]:
    """Greedy, since a choice with each class on both sides is hard to find, and need not be there."""
    having: defaultdict[Any, list[str]] = defaultdict(list)
    for source, labels in groups.items():
        for label in labels:
            having[label].append(source)
    to_train = Counter({label: len(sources) for label, sources in having.items()})
    held: set[str] = set()

    def hold_one_of(sources: Iterable[str], uncovered: Container[Any]) -> None:
        free = [source for source in sources if source not in held and all(to_train[n] > 1 for n in groups[source])]
        if free:
            best = max(free, key=lambda source: sum(label in uncovered for label in groups[source]))
            held.add(best)
            to_train.subtract(groups[best])

    for label in sorted(having, key=lambda label: (len(having[label]), str(label))):
        if to_train[label] == len(having[label]):
            hold_one_of(having[label], {other for other in having if to_train[other] == len(having[other])})
    for source in groups:
        if len(held) < max(1, round(SHARE * len(groups))):
            hold_one_of([source], ())
    return held


def _source(file_name: str) -> str:
    return file_name.partition('.rf.')[0]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _classes(parts: dict[str, Part]) -> list[str]:
    """The classes that have objects. mmdet numbers them in the order of each file, whatever the config's order is."""
    counts = parts['train'].count() + parts['val'].count()
    classes = [name for name in parts['train'].names if counts[name]]
    order = [name for name in parts['val'].names if counts[name]]
    if order != classes:
        raise PreflightError(
            f'{parts["train"].path} and {parts["val"].path} must list the same classes in the same order, got '
            f'{shortlist(classes)} and {shortlist(order)}'
        )
    return classes
