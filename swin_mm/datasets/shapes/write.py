"""Writes the embedded data set: images of shapes, drawn from a seed, in COCO layout and with semantic maps.

::

    root/
      shapes.json                                        what was written: version, seed, counts
      annotations/instances_{train,val}.json             COCO: polygons; one crowd (RLE) in the first image of each
      {train,val}/000001.jpg ...                         sides of 112 to 160 pixels
      semantic/{train,val}/000001.png ...                uint8: 0 background, 1 + the index in CLASSES; 255 never

With heat there is a fourth band, the images are {train,val}/000001.npy, uint16 (H, W, 4), and the classes are cold and
hot (`heat.py`).

Masks, boxes and areas take in the visible pixels only. The semantic map holds the class of a crowd's pixels too: the
class is known, only the single shapes are not told apart.

``python -m swin_mm.datasets.shapes data/shapes`` writes the set.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import heat as heat_band
from .draw import CLASSES, Instance, draw_image, visible_polygons

__all__ = ['CLASSES', 'MANIFEST', 'PALETTE', 'write_shapes']

PALETTE = [(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66)]  # Okabe and Ito: all distinct
MANIFEST = 'shapes.json'
VERSION = 3  # raise it when the same seed gives other files
SPLITS = ('train', 'val')


def write_shapes(root: str | os.PathLike, train: int = 600, val: int = 80, seed: int = 0, heat: bool = False) -> Path:
    """Writes ``train`` and ``val`` images to the folder ``root``, and gives its path; equal arguments give equal files.

    With ``heat`` they have a fourth band, which alone tells the classes, cold and hot, apart.

    A set made with the same arguments is kept as it is. Otherwise the set is written to a folder beside ``root``, which
    is then renamed. So ``root`` is whole or absent. If several processes write at once, one wins and the others take
    its set.

    Raises:
        ValueError: a count is below 1 or the seed below 0.
        FileExistsError: ``root`` holds something else, even if that is a set made with other arguments.
    """
    for name, value, least in (('train', train, 1), ('val', val, 1), ('seed', seed, 0)):
        if value < least:
            raise ValueError(f'{name} must be >= {least}, got {name}={value}')
    root = Path(root).resolve()
    manifest = {'dataset': 'swin_mm shapes', 'version': VERSION, 'train': train, 'val': val, 'seed': seed}
    manifest |= {'heat': True} if heat else {}
    if _holds_set(root, manifest):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{root.name}-', dir=root.parent) as scratch:
        # Only the owner may read the temporary folder. A folder inside it gets the usual permissions.
        fresh = Path(scratch) / root.name
        for split, count in zip(SPLITS, (train, val), strict=True):
            _write_split(fresh, split, count, seed, heat)
        (fresh / MANIFEST).write_text(json.dumps(manifest) + '\n')
        try:
            fresh.rename(root)  # refused by the system if another process has filled root meanwhile
        except OSError:
            if not _holds_set(root, manifest):
                raise
    return root


def _holds_set(root: Path, manifest: dict) -> bool:
    """Whether ``root`` holds the set of ``manifest``; False if it holds nothing. Raises FileExistsError otherwise."""
    # The manifest is read last, so that a set which another process renames to root in between is seen whole.
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    wanted, file = json.dumps(manifest), root / MANIFEST
    found = file.read_text().strip() if file.is_file() else f'no {MANIFEST}'
    if found == wanted:
        return True
    raise FileExistsError(
        f'root must be a new or empty folder or hold the shapes set {wanted}, got {root} with {found}; '
        'remove that folder or choose another'
    )


def _write_split(root: Path, split: str, count: int, seed: int, heat: bool) -> None:
    """Writes the images, the semantic maps and the annotation file of one split under ``root``."""
    for folder in (split, f'semantic/{split}', 'annotations'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        # One generator per image: train and val never share one, and image 7 is the same in a larger set.
        rng = np.random.default_rng([seed, SPLITS.index(split), index])
        image, instances = draw_image(rng, crowd=index == 0)
        if heat:
            image, instances = heat_band.add_heat(rng, image, instances)
        name = _write_image(root / split, f'{index + 1:06d}', image)
        semantic = np.zeros(image.shape[:2], dtype=np.uint8)
        for instance in instances:
            semantic[instance.mask] = instance.label + 1
        Image.fromarray(semantic).save(root / 'semantic' / split / f'{index + 1:06d}.png')
        height, width = image.shape[:2]
        images.append({'id': index + 1, 'file_name': name, 'width': width, 'height': height})
        for instance in instances:
            ids = {'id': len(annotations) + 1, 'image_id': index + 1}
            annotations.append(ids | _annotation(instance))
    classes = heat_band.CLASSES if heat else CLASSES
    coco = {
        'info': {'description': f'swin_mm shapes, {split}', 'version': str(VERSION)},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i + 1, 'name': name, 'supercategory': 'shape'} for i, name in enumerate(classes)],
    }
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(coco, separators=(',', ':')))


def _write_image(folder: Path, stem: str, image: np.ndarray) -> str:
    """Writes RGB as a JPEG and four bands as a NumPy file; gives the name."""
    if image.shape[2] == 3:
        Image.fromarray(image).save(folder / f'{stem}.jpg', quality=92)
        return f'{stem}.jpg'
    np.save(folder / f'{stem}.npy', image, allow_pickle=False)
    return f'{stem}.npy'


def _annotation(instance: Instance) -> dict:
    """Gives the COCO entry of an instance, without its ids; its box is (x, y, width, height) in pixels."""
    mask = instance.mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    segmentation: dict[str, Any] | list[list[float]]
    if instance.crowd:
        segmentation = {'size': list(mask.shape), 'counts': _run_lengths(mask)}
    else:
        polygons = visible_polygons(mask)
        assert polygons is not None, 'draw_picture leaves no hole in an instance'
        segmentation = [polygon.ravel().tolist() for polygon in polygons]
    return {
        'category_id': instance.label + 1,
        'segmentation': segmentation,
        'area': int(mask.sum()),
        'bbox': [int(number) for number in box],
        'iscrowd': int(instance.crowd),
    }


def _run_lengths(mask: np.ndarray) -> list[int]:
    """Gives COCO's uncompressed RLE: the lengths of the runs down the columns, zeros first."""
    starts = np.flatnonzero(np.diff(mask.ravel(order='F'), prepend=False))
    return np.diff(starts, prepend=0, append=mask.size).tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the set that the command line asks for and prints what was done."""
    parser = argparse.ArgumentParser(prog='python -m swin_mm.datasets.shapes', description=__doc__.splitlines()[0])
    parser.add_argument('root', metavar='ROOT', help='folder to write, for example data/shapes')
    parser.add_argument('--train', type=int, default=600, help='pictures to train on (default: %(default)s)')
    parser.add_argument('--val', type=int, default=80, help='held-out pictures (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='what the pictures are drawn from (default: %(default)s)')
    parser.add_argument('--heat', action='store_true', help='add a fourth band, which tells cold shapes from hot ones')
    wanted = vars(parser.parse_args(arguments))
    was_there = (Path(wanted['root']) / MANIFEST).exists()
    start = time.perf_counter()
    try:
        root = write_shapes(**wanted)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    done = 'kept, it was there' if was_there else f'written in {time.perf_counter() - start:.1f} s'
    print(f'{root}: {wanted["train"]} train and {wanted["val"]} val pictures, seed {wanted["seed"]}; {done}')
