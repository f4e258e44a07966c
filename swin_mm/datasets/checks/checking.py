"""Checks the data sets of a config before a training: classes, annotations and image files."""

import json
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from ...errors import one_line
from ...recipes import datasets_in, type_name
from .annotations import check_annotations, check_images_list
from .channels import check_channels
from .classes import check_classes, check_counts, check_heads, check_names, check_number
from .columns import CocoColumns
from .data_sets import (
    build_unread,
    image_paths,
    is_coco,
    is_lvis,
    learns_masks,
    loads_bands,
    loads_labels,
    name_lvis_files,
    read_images,
    reason_unchecked,
    steps_of,
)
from .findings import Findings
from .images import ImageFile, check_files, check_overlap
from .labels import check_labels
from .screen import Screen

LOOPS = ('train', 'val', 'test')


def check_data(
    cfg: Config,
    loops: Sequence[str] = LOOPS,
    decode: bool = False,
    screen: Screen | None = None,
) -> Findings:
    """Checks the data sets of the ``loops`` of a config: channels, annotations in COCO's format or label maps of mmseg.

    Reads the annotations and the header of every image; with ``decode`` all of every file. Other data sets, and files
    in storage backends, are named in a note. ``screen``: where to show how far it is.
    """
    found = Findings()
    check_channels(cfg, loops, found)
    checker = _Checker(cfg, decode, screen or Screen(), found)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        for loop in loops:
            for settings in datasets_in((cfg.get(f'{loop}_dataloader') or {}).get('dataset') or {}):
                if settings:
                    checker.check(loop, settings)
    checker.check_overlaps()
    return found


class _Checker:
    """Checks one data set after the other, each once; keeps the files of each loop to compare them."""

    def __init__(self, cfg: Config, decode: bool, screen: Screen, found: Findings):
        self.cfg, self.decode, self.screen, self.found = cfg, decode, screen, found
        self.files: dict[str, list[ImageFile]] = {}
        self.seen: dict[tuple, str] = {}
        self.masks = learns_masks(cfg)

    def check(self, loop: str, settings: dict) -> None:
        """Checks the data set that ``settings`` build."""
        dataset = build_unread(settings)
        classes = (dataset.metainfo or {}).get('classes')
        key = (dataset.ann_file, str(dataset.data_prefix), str(classes))
        first = self.seen.setdefault(key, loop)
        if first != loop:  # most configs test on what they validate on
            if first == 'train':
                self.files.setdefault(loop, []).extend(self.files.get('train', []))
            return
        place = dataset.ann_file or dataset.data_prefix.get('img_path') or type_name(settings)
        self.found.data = f'{loop}: {place}'
        if reason := reason_unchecked(dataset, settings):
            self.found.add('note', 'not-checked', reason)
        elif is_coco(dataset):
            self.check_coco(loop, dataset, settings)
        else:
            self.check_segmentation(loop, dataset, settings)

    def check_coco(self, loop: str, dataset: Any, settings: dict) -> None:
        """Checks annotations in COCO's format, and their images."""
        classes = dataset.metainfo.get('classes')
        coco = self.read(dataset.ann_file, loop == 'test')
        if coco is None:
            return
        if is_lvis(dataset):
            name_lvis_files(dataset, coco.images)
            classes = check_number(classes, coco, self.found)
        check_images_list(coco, self.found)
        paths = image_paths(dataset, coco.images)
        if check_classes(classes, coco, self.found) and classes:
            check_heads(self.cfg.get('model') or {}, classes, self.found)
            check_annotations(coco, paths, self.masks, self.found)
            check_counts(classes, coco, loop == 'train', loop == 'test', self.found)
        sizes = [(image['width'], image['height']) for image in coco.images]
        self.check_files(loop, paths, sizes, settings)

    def check_segmentation(self, loop: str, dataset: Any, settings: dict) -> None:
        """Checks images and their label maps, as mmseg lists them."""
        classes = dataset.metainfo.get('classes')
        if not check_names(classes, self.found):
            return
        check_heads(self.cfg.get('model') or {}, classes, self.found)
        try:
            samples = dataset.load_data_list()
        except (AssertionError, OSError, ValueError) as error:
            self.found.add('error', 'empty', f'its images cannot be listed: {one_line(error)}')
            return
        if not samples:
            sentence = f'no image in {dataset.data_prefix.get("img_path")} ends with img_suffix={dataset.img_suffix}'
            self.found.add('error', 'empty', sentence)
        files = self.check_files(loop, [sample['img_path'] for sample in samples], None, settings)
        if loads_labels(settings):
            check_labels(samples, files, len(classes), self.decode, self.found)

    def read(self, path: str, test: bool) -> CocoColumns | None:
        """Reads annotations; None, with a finding, if that is not possible."""
        self.screen.show_reading(path)
        try:
            coco = CocoColumns(path)
        except FileNotFoundError:
            self.found.add('error', 'annotation-file', f'there is no annotation file {path}')
            return None
        except json.JSONDecodeError as error:
            self.found.add('error', 'annotation-file', f'{path} is no whole JSON: {error}')
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.found.add('error', 'annotation-file', f'{path} cannot be read as COCO annotations: {one_line(error)}')
            return None
        lacks = [key for key in coco.missing if not (test and key == 'annotations')]
        if lacks:
            sentence = f"{path} has no list of {' and '.join(lacks)}, which files in COCO's format have"
            self.found.add('error', 'annotation-file', sentence)
            return None
        return coco

    def check_files(
        self, loop: str, paths: Sequence[str], sizes: Sequence[tuple[int, int]] | None, settings: dict
    ) -> list[ImageFile]:
        """Reads the images of a data set and checks them; ``sizes``, (width, height), are those announced for them."""
        files = read_images(paths, settings, self.decode, self.screen)
        if loads_bands(settings):
            self.found.add('note', 'not-checked', 'images of several bands (LoadBands) were not opened')
            return files
        check_files(files, sizes, loop == 'train' and 'LoadImage' in steps_of(settings), self.found)
        self.files.setdefault(loop, []).extend(files)
        return files

    def check_overlaps(self) -> None:
        """Compares the images of validation and test with those of training."""
        for loop in ('val', 'test'):
            if 'train' in self.files and loop in self.files:
                self.found.data = loop
                check_overlap(self.files['train'], self.files[loop], self.found)
