"""Reads annotations in COCO's format, and refuses what mmdet would read wrongly or trip over later."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import PreflightError, one_line, shortlist

PARTS = ('images', 'annotations', 'categories')


@dataclass
class Part:
    """Some images and their objects: the file ``path``, and the folder ``images`` that its file names start at.

    ``unwritten``: ``content`` is not what the file holds, if it is there at all, until `save` is called.
    """

    path: Path
    images: Path
    content: dict[str, Any]
    unwritten: bool = False

    @property
    def names(self) -> list[str]:
        """The classes that the file lists, in its order, which is the order of mmdet's labels."""
        return [category['name'] for category in self.content['categories']]

    def count(self) -> Counter[str]:
        """Counts the objects of each class."""
        by_id = {category['id']: category['name'] for category in self.content['categories']}
        return Counter(by_id[annotation['category_id']] for annotation in self.content['annotations'])

    def files(self) -> list[Path]:
        """The images, in the order of the file."""
        return [self.images / image['file_name'] for image in self.content['images']]

    def save(self) -> None:
        """Writes the file if it needs to be; another process reads the old one or the new one, never a half."""
        if self.unwritten:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            scratch = self.path.with_suffix(f'.{os.getpid()}')
            scratch.write_text(json.dumps(self.content))
            scratch.replace(self.path)
            self.unwritten = False


def read_coco(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None if it holds no objects in COCO's format, but, say, captions.

    Raises PreflightError for a file that is no JSON, or whose parts do not fit together.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PreflightError(f'{path} cannot be read as JSON: {one_line(error)}') from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in PARTS):
        return None
    annotations = content['annotations']
    if annotations and not any('category_id' in annotation for annotation in annotations):
        return None
    check(content, path)
    return content


def check(content: dict[str, Any], path: Path) -> None:
    """Raises PreflightError, which names ``path``, if parts of ``content`` are missing or do not fit together."""
    images, categories, annotations = (content[part] for part in ('images', 'categories', 'annotations'))
    if not images or not annotations:
        raise PreflightError(f'{path} must have images and annotations, got {len(images)} and {len(annotations)}')
    for kind, values in (
        ('image id', [image['id'] for image in images]),
        ('category id', [category['id'] for category in categories]),
        ('category name', [category['name'] for category in categories]),
    ):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise PreflightError(f'{path}: each {kind} must be there once, got twice: {shortlist(map(repr, twice))}')
    known = {'image_id': {image['id'] for image in images}, 'category_id': {part['id'] for part in categories}}
    for i, annotation in enumerate(annotations):
        where = f'{path}: annotation {annotation.get("id", f"number {i}")}'
        for key, ids in known.items():
            if annotation.get(key) not in ids:
                raise PreflightError(f'{where}: {key} must be one of the file, got {annotation.get(key)}')
        box = annotation.get('bbox')
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
            raise PreflightError(f'{where}: bbox must be [x, y, width, height] in pixels, got {box}')


def has_mask(annotation: dict[str, Any]) -> bool:
    """Whether an annotation outlines its object: polygons of three points or more, or run lengths."""
    outline = annotation.get('segmentation')
    if isinstance(outline, dict):
        return True
    return (
        isinstance(outline, list)
        and outline != []
        and all(isinstance(polygon, list) and len(polygon) >= 6 for polygon in outline)
    )


def mend(part: Part) -> bool:
    """Adds what mmdet needs and many tools leave out: sizes of images, areas of objects; tells whether it did.

    An area is its box's (COCO's counts the pixels of the mask): it only sorts objects into small and large.
    """
    mended = False
    for image, file in zip(part.content['images'], part.files(), strict=True):
        if 'width' not in image or 'height' not in image:
            image['width'], image['height'] = size_of(file)
            mended = True
    for i, annotation in enumerate(part.content['annotations'], 1):
        missing = {'id': i, 'iscrowd': 0, 'area': annotation['bbox'][2] * annotation['bbox'][3]}
        mended |= any(key not in annotation for key in missing)
        annotation.update({key: value for key, value in missing.items() if key not in annotation})
    return mended


def check_sizes(part: Part, samples: int = 20) -> None:
    """Raises PreflightError if one of some images, over the whole file, is not as large as its annotations say."""
    images = part.content['images']
    for image in images[:: max(1, len(images) // samples)]:
        file = part.images / image['file_name']
        found, said = size_of(file), (image['width'], image['height'])
        if found != said:
            raise PreflightError(
                f'{file} is of {found[0]} x {found[1]} pixels, and {part.path} says {said[0]} x {said[1]}: is it '
                'another image of that name, or was it resized or turned since?'
            )


def size_of(file: Path) -> tuple[int, int]:
    """(width, height) of an image in pixels, turned as its EXIF data say; raises PreflightError if it has none."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except OSError as error:
        raise PreflightError(f'image {file} cannot be read: {one_line(error)}') from error
    return (height, width) if turned else (width, height)
