"""Mends annotations in COCO's format where there is one right answer, and counts what it did."""

from collections import Counter, defaultdict
from collections.abc import Container, Hashable, Iterable, Sequence
from typing import Any

from .images import ImageFile
from .objects import clip, has_broken_mask, is_outside, is_size, lacks_mask, mask_box, numbers
from .outlines import turn_box, turn_mask

# Faults of a larger share of the objects, or of the images, are no slips, but another format or folder.
SLIPS, LOST_IMAGES = 0.1, 0.5
ALIKE = 0.02  # share by which the scales of two sides differ at most, or a scale differs from 1
SENTENCES = {
    'image-keys': 'images without an id or a file name were left out',
    'duplicate-image-id': 'entries that repeat an image were left out',
    'image-missing': 'images that are not there or cannot be read were left out, with their annotations',
    'overlap': 'images that validation or test have too were left out of the training set, with their annotations',
    'image-turned': 'images are turned by their EXIF orientation: size, boxes and masks were turned with them',
    'image-size': 'images got the size that their files have',
    'annotation-keys': 'annotations with neither a box of four finite numbers nor a mask were left out',
    'unknown-image': 'annotations of images that the file does not list were left out',
    'unknown-category': 'annotations of categories that the file does not list were left out',
    'duplicate-id': 'annotations got a number of their own: theirs was missing, or another had it',
    'box-missing': 'annotations without a box of four finite numbers got the box around their mask',
    'box-outside': 'boxes were clipped to their image, and polygons with them',
    'box-empty': 'objects whose box is under a pixel wide or high were left out',
    'mask-broken': 'objects whose mask does not decode, is empty or is of another size than the image were left out',
    'mask-missing': 'objects without a mask were left out, since masks are learned',
    'filled': 'annotations got the area of their box, or iscrowd=0, which they lacked',
}


def mend_coco(
    content: dict[str, Any], files: Sequence[ImageFile], masks: bool, unwanted: Container[str] = ()
) -> Counter[str]:
    """Mends the ``content`` of a COCO file in place; gives how often it did what, by the keys of ``SENTENCES``.

    ``files`` are those of its images, in their order, with an empty path for an entry that names none. ``masks``:
    whether they are learned; broken ones are left alone if not. Images whose files are ``unwanted`` are left out.
    """
    mender = _Mender(content, masks)
    mender.mend_images(files, unwanted)
    mender.mend_objects()
    return mender.done


class _Mender:
    def __init__(self, content: dict[str, Any], masks: bool):
        self.content, self.masks = content, masks
        self.done: Counter[str] = Counter()
        self.listed = {image['id'] for image in content['images'] if has_name(image)}
        self.objects: defaultdict[Any, list[dict]] = defaultdict(list)
        for item in content.get('annotations', ()):
            if isinstance(item, dict) and isinstance(item.get('image_id'), Hashable):
                self.objects[item.get('image_id')].append(item)

    def mend_images(self, files: Sequence[ImageFile], unwanted: Container[str]) -> None:
        """Keeps the images that can be loaded, each once, with the size of its file."""
        misplaced = sum(file.fault is not None for file in files) > LOST_IMAGES * len(files)
        kept, seen = [], set()
        for image, file in zip(self.content['images'], files, strict=True):
            if not has_name(image):
                self.done['image-keys'] += 1
            elif (image['id'], image['file_name']) in seen:
                self.done['duplicate-image-id'] += 1
            elif file.path in unwanted:
                self.done['overlap'] += 1
            elif file.fault and not misplaced:
                self.done['image-missing'] += 1
            else:
                seen.add((image['id'], image['file_name']))
                self.mend_size(image, file)
                kept.append(image)
        self.content['images'] = kept

    def mend_size(self, image: dict, file: ImageFile) -> None:
        """Sets the size of an image to its file's, unless the file may have been resized since it was annotated."""
        said, shown, objects = (image.get('width'), image.get('height')), file.shown_size, self.objects[image['id']]
        if shown is None or said == shown:
            return
        if file.size and file.turned and said == file.size:
            self.done['image-turned'] += 1
            for item in objects:
                if box := numbers(item.get('bbox')):
                    item['bbox'] = turn_box(box, file.orientation, *file.size)
                if mask_box(item):
                    item['segmentation'] = turn_mask(item['segmentation'], file.orientation, *file.size)
        elif not is_size(said) or not _is_resized(said, shown, objects):
            self.done['image-size'] += 1
        else:
            return
        image['width'], image['height'] = shown

    def mend_objects(self) -> None:
        """Keeps the annotations that mmdet can train on, with whole numbers and ids of their own."""
        if 'annotations' not in self.content:
            return
        sizes = {image['id']: (image.get('width'), image.get('height')) for image in self.content['images']}
        categories = {item['id'] for item in self.content['categories'] if _has_id(item)}
        known = []
        for item in self.content['annotations']:
            fault = self.unknown(item, categories)
            if fault:
                self.done[fault] += 1
            elif item['image_id'] in sizes:
                known.append(item)
        slips = {
            'box-outside': _few((is_outside(item, sizes[item['image_id']]) for item in known), known),
            'mask-missing': _few((lacks_mask(item) for item in known), known),
            'mask-broken': _few((has_broken_mask(item, sizes[item['image_id']]) for item in known), known),
        }
        self.content['annotations'] = [item for item in known if self.keep(item, sizes[item['image_id']], slips)]
        self.number()

    def unknown(self, item: Any, categories: set) -> str | None:
        """The fault of an annotation of nothing that the file lists; None if it has none."""
        if not isinstance(item, dict):
            return 'annotation-keys'
        for key, known in (('image', self.listed), ('category', categories)):
            name = item.get(f'{key}_id')
            if not isinstance(name, Hashable) or name not in known:
                return f'unknown-{key}'
        return None

    def keep(self, item: dict, size: tuple, slips: dict[str, bool]) -> bool:
        """Mends one annotation; False if it is to be left out."""
        if self.masks and slips['mask-missing'] and lacks_mask(item):
            return self.drop('mask-missing')
        if self.masks and slips['mask-broken'] and has_broken_mask(item, size):
            return self.drop('mask-broken')
        box, outline = numbers(item.get('bbox')), mask_box(item)
        if box is None and outline is None:
            return self.drop('annotation-keys')
        if box is None and outline:
            self.done['box-missing'] += 1
            box = outline
        item['bbox'] = box
        reaches_out = slips['box-outside'] and is_outside(item, size)
        if reaches_out:
            clip(item, size)
        if min(item['bbox'][2:]) < 1:
            return self.drop('box-empty')
        if self.masks and outline and not item['segmentation']:
            return self.drop('mask-broken')
        self.done['box-outside'] += reaches_out
        self.fill(item)
        return True

    def drop(self, reason: str) -> bool:
        self.done[reason] += 1
        return False

    def fill(self, item: dict) -> None:
        """Adds what is missing and follows from the rest."""
        box = float(item['bbox'][2] * item['bbox'][3])
        area = numbers([item.get('area')], 1)
        lacking = area is None or area[0] <= 0
        if lacking or 'iscrowd' not in item:
            self.done['filled'] += 1
        item.setdefault('iscrowd', 0)
        if lacking:
            item['area'] = box

    def number(self) -> None:
        """Gives a new id to annotations without one, and to all but the first that share one."""
        seen: set = set()
        items = self.content['annotations']
        free = max((item['id'] for item in items if type(item.get('id')) is int), default=0) + 1
        for item in items:
            key = item.get('id')
            if key is None or not isinstance(key, Hashable) or key in seen:
                item['id'], free = free, free + 1
                self.done['duplicate-id'] += 1
            seen.add(item['id'])


def has_name(image: Any) -> bool:
    """Whether an entry of the images says which file it is, and how annotations name it."""
    return _has_id(image) and isinstance(image.get('file_name'), str)


def _has_id(item: Any) -> bool:
    return isinstance(item, dict) and item.get('id') is not None and isinstance(item['id'], Hashable)


def _is_resized(said: tuple, shown: tuple[int, int], objects: Iterable[dict]) -> bool:
    """Whether the boxes may be in pixels of the size that the annotations say: then no other size fits them."""
    scales = [new / old for new, old in zip(shown, said, strict=True)]
    same_shape = abs(scales[0] / scales[1] - 1) <= ALIKE < abs(scales[0] - 1)
    return same_shape or any(is_outside(item, shown) for item in objects)


def _few(faults: Iterable[bool], items: Sequence) -> bool:
    return sum(faults) <= max(1, SLIPS * len(items))
