"""Reads what a detector found, from results in COCO's format, and refuses what does not fit the annotations."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from ...errors import PreflightError, shortlist

PICKLES = ('.pkl', '.pickle')
WANTED = (
    "results in COCO's format: a list of objects, each with image_id, category_id, score, and bbox or a "
    'segmentation of run lengths, as `swin-mm test CONFIG CHECKPOINT --out FILE.json` writes it'
)


def find_results(path: Path) -> Path:
    """Gives ``path``, or beside it the masks or else the boxes that ``test --out`` wrote for that name.

    Raises PreflightError if it is no such file.
    """
    if path.suffix in PICKLES:
        raise PreflightError(
            f'PREDICTIONS must be JSON, got {path}: a pickle may run code and is not read, so write the predictions '
            'with `swin-mm test CONFIG CHECKPOINT --out FILE.json`'
        )
    if path.is_dir():
        raise PreflightError(f'PREDICTIONS of a detector must be a file with {WANTED}, got the folder {path}')
    candidates = [path, *(path.with_suffix(f'.{kind}.json') for kind in ('segm', 'bbox'))]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise PreflightError(f'PREDICTIONS must be a file with {WANTED}, and there is no {path}')
    return found


def read_results(path: Path, truth: COCO, classes: dict[int, str]) -> tuple[str, list[dict[str, Any]]]:
    """Gives the kind of the results, 'segm' if they have masks and else 'bbox', and the results.

    ``classes`` has the name of each category of the config. Raises PreflightError for other content, no results, or
    results of images or categories that are not there, or masks of another size than their image.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise PreflightError(f'PREDICTIONS must be a file with {WANTED}, got {path}: {error}') from error
    if not isinstance(content, list):
        raise PreflightError(f'PREDICTIONS must hold {WANTED}, got {type(content).__name__} in {path}')
    if not content:
        raise PreflightError(f'{path} holds no predictions: the model found nothing, at no score')
    kind = 'segm' if isinstance(content[0], dict) and 'segmentation' in content[0] else 'bbox'
    complain = _first_fault(content, kind)
    if complain is not None:
        raise PreflightError(f'PREDICTIONS must hold {WANTED}; {path} has {complain}')
    _check_known(path, 'image_id', content, truth.imgs, 'images that the annotations do not list')
    _check_known(path, 'category_id', content, classes, f'categories that are none of the classes {_named(classes)}')
    if kind == 'segm':
        _check_sizes(path, content, truth.imgs)
    return kind, content


def _first_fault(content: Sequence[Any], kind: str) -> str | None:
    is_whole = _is_mask if kind == 'segm' else _is_box
    for place, item in enumerate(content):
        if not _is_result(item, is_whole):
            return f'{str(item)[:120]} at place {place}'
    return None


def _is_result(item: Any, is_whole: Callable[[dict], bool]) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get('image_id'), int | str)
        and isinstance(item.get('category_id'), int)
        and _is_number(item.get('score'))
        and is_whole(item)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_box(item: dict) -> bool:
    box = item.get('bbox')
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _is_mask(item: dict) -> bool:
    mask = item.get('segmentation')
    return isinstance(mask, dict) and isinstance(mask.get('counts'), str) and isinstance(mask.get('size'), list)


def _check_known(path: Path, key: str, content: Sequence[dict], known: Iterable[Any], what: str) -> None:
    lost = sorted({item[key] for item in content} - set(known), key=str)
    if lost:
        raise PreflightError(
            f'{path} has predictions of {what}, {key} {shortlist(map(str, lost))}: is it of another data set?'
        )


def _check_sizes(path: Path, content: Sequence[dict], images: dict[Any, dict]) -> None:
    for item in content:
        size, image = item['segmentation']['size'], images[item['image_id']]
        if size != [image['height'], image['width']]:
            raise PreflightError(
                f'{path} has a mask of {" x ".join(map(str, size))} (height x width) for image {item["image_id"]}, '
                f'which the annotations say is {image["height"]} x {image["width"]}'
            )


def _named(classes: dict[int, str]) -> str:
    return shortlist(f'{number} ({name})' for number, name in classes.items())
