"""Writes mended copies of the annotations of a config's data sets, and lets the config read them."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from ...errors import PreflightError
from ...recipes import datasets_in, settings_within
from .checking import LOOPS
from .data_sets import (
    build_unread,
    image_paths,
    is_coco,
    is_lvis,
    learns_masks,
    loads_labels,
    read_images,
    reason_unchecked,
)
from .findings import Findings
from .images import ImageFile, overlaps
from .labels import label_faults
from .mending import LOST_IMAGES, SENTENCES, has_name, mend_coco
from .screen import Screen

LABEL_SENTENCES = {
    'image-missing': 'images that are not there or cannot be read were left out, and their label files',
    'label-missing': 'images whose label file is not there were left out',
    'label-broken': 'images whose label file cannot be read were left out',
    'overlap': 'images that validation or test have too were left out of the training set',
}


def fix_data(cfg: Config, folder: Path, decode: bool = False, screen: Screen | None = None) -> Findings:
    """Writes mended annotations of ``cfg`` to ``folder``, new or empty, and lets ``cfg`` read them.

    Gives what was mended, as findings of the severity 'fixed'. Files that needed nothing are not copied; no other file
    is changed. ``decode`` and ``screen`` are those of `check_data`. Raises PreflightError for a folder with files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PreflightError(f'--fix must name a new or an empty folder, so that no file is overwritten, got {folder}')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        found = [item for loop in LOOPS for item in _data_sets(cfg, loop)]
        different: dict[tuple, _DataSet] = {}
        for item in found:
            if different.setdefault(item.key, item) is item:
                item.read(decode, screen or Screen())
        unwanted, done = _shared_files(list(different.values())), Findings()
        copies = {
            key: _mend(item, cfg, folder, decode, unwanted if item.loop == 'train' else set(), done)
            for key, item in different.items()
        }
    copied = [item for item in found if copies[item.key]]
    for item in copied:
        item.settings['ann_file'] = copies[item.key]
    _move_evaluators(cfg, {item.place: copies[item.key] for item in copied if item.loop != 'train'})
    return done


@dataclass
class _DataSet:
    """A data set of a config: its annotations as parsed or listed, and its image files; both None if it is unread."""

    loop: str
    settings: dict
    dataset: Any
    content: Any = None
    files: list[ImageFile] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The annotation file."""
        return os.path.abspath(self.dataset.ann_file) if self.dataset.ann_file else ''

    @property
    def key(self) -> tuple:
        """What data sets share that read the same; of validation and test, the copy of one serves the other."""
        return self.loop == 'train', self.place, str(self.dataset.data_prefix), str(self.dataset.metainfo)

    def read(self, decode: bool, screen: Screen) -> None:
        """Reads the annotations and images, if they can be read at all."""
        if is_coco(self.dataset):
            screen.show_reading(self.place)
            self.content = _read_coco(self.place, self.loop == 'test')
            images = self.content['images'] if self.content else []
            paths = [image_paths(self.dataset, [image])[0] if has_name(image) else '' for image in images]
        else:
            try:
                self.content = self.dataset.load_data_list()
            except (AssertionError, OSError, ValueError):  # the check says it
                return
            paths = [sample['img_path'] for sample in self.content]
        self.files = read_images(paths, self.settings, decode, screen)


def _data_sets(cfg: Config, loop: str) -> Iterator[_DataSet]:
    """Yields the data sets of a loop that can be checked."""
    for settings in datasets_in((cfg.get(f'{loop}_dataloader') or {}).get('dataset') or {}):
        dataset = build_unread(settings) if settings else None
        if dataset is None or reason_unchecked(dataset, settings):
            continue
        if not (is_coco(dataset) and is_lvis(dataset)):  # LVIS is as it was published
            yield _DataSet(loop, settings, dataset)


def _read_coco(path: str, test: bool) -> dict | None:
    """The content of a COCO file; None if it is none, which the check says."""
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    needed = ('images', 'categories') if test else ('images', 'annotations', 'categories')
    whole = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in needed)
    return content if whole else None


def _shared_files(found: Sequence[_DataSet]) -> set[str]:
    """The training images that validation or test have too; none if they are most, as one set for all is meant so."""
    train = [file for item in found if item.loop == 'train' for file in item.files]
    held = [file for item in found if item.loop != 'train' for file in item.files]
    shared = {file.path for check, file, _ in overlaps(held, train) if check != 'overlap-look'}
    return shared if len(shared) <= LOST_IMAGES * len(train) else set()


def _mend(item: _DataSet, cfg: Config, folder: Path, decode: bool, unwanted: set[str], done: Findings) -> str:
    """Writes a mended copy and notes what was done; gives its path, '' if nothing was."""
    if item.content is None:
        return ''
    if is_coco(item.dataset):
        counts, sentences = mend_coco(item.content, item.files, learns_masks(cfg), unwanted), SENTENCES
        text, suffix = json.dumps(item.content), '.json'
    else:
        names, counts = _kept_names(item, decode, unwanted)
        text, suffix, sentences = ''.join(f'{name}\n' for name in names), '.txt', LABEL_SENTENCES
    if not counts.total():
        return ''
    folder.mkdir(parents=True, exist_ok=True)
    number = len([path for path in folder.iterdir() if path.name.startswith(item.loop)])
    path = folder.resolve() / f'{item.loop}{number + 1 if number else ""}{suffix}'
    path.write_text(text)
    done.data = f'{item.loop}: {item.place or item.dataset.data_prefix.get("img_path")}'
    for check, sentence in sentences.items():
        done.add('fixed', check, sentence, (), counts[check])
    return str(path)


def _kept_names(item: _DataSet, decode: bool, unwanted: set[str]) -> tuple[list[str], Counter[str]]:
    """The names of the images, as mmseg lists them, without those that cannot be trained on; counts these."""
    dataset, samples = item.dataset, item.content
    faults = {file.path: 'image-missing' for file in item.files if file.fault}
    if loads_labels(item.settings):
        found = label_faults(samples, item.files, len(dataset.metainfo.get('classes') or ()), decode)
        faults = {path: check for check, _, path in found if check in LABEL_SENTENCES} | faults
    if len(faults) > LOST_IMAGES * len(samples):
        faults = {}
    faults |= dict.fromkeys(unwanted, 'overlap')
    names, counts = [], Counter[str]()
    for path in [sample['img_path'] for sample in samples]:
        if path in faults:
            counts[faults[path]] += 1
        else:
            names.append(os.path.relpath(path, dataset.data_prefix['img_path']).removesuffix(dataset.img_suffix))
    return names, counts


def _move_evaluators(cfg: Config, copies: dict[str, str]) -> None:
    """Lets the metrics of ``cfg`` read the copies, whose ids may be others."""
    for key in [key for key in cfg if key.endswith('_evaluator')]:
        for _, metric in settings_within(cfg[key], key):
            if isinstance(metric.get('ann_file'), str):
                metric['ann_file'] = copies.get(os.path.abspath(metric['ann_file']), metric['ann_file'])
