"""Training images are augmented as officially: from equal random numbers come equal pixels, boxes, masks and labels.

The rules of mmdet 2.11 and mmseg 0.11 (``datasets/pipelines/transforms.py``, ``auto_augment.py`` in the official
repositories) are restated here with NumPy and OpenCV, and draw in the official order.
"""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

SHORT_SIDES = range(480, 801, 32)
MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])  # of red, green, blue


def rescaled(image: np.ndarray, scale: tuple[int, int], interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """The largest image of the same shape in ``scale`` (two sides, in any order); sides are rounded half up."""
    height, width = image.shape[:2]
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return cv2.resize(image, (int(width * factor + 0.5), int(height * factor + 0.5)), interpolation=interpolation)


def even() -> bool:
    return np.random.randint(2) == 1


class Objects:
    """An image with boxes and masks, ``numbers`` telling which objects are still there."""

    def __init__(self, image: np.ndarray, boxes: np.ndarray, masks: np.ndarray):
        self.image, self.boxes, self.masks = image, boxes, list(masks)
        self.numbers = np.arange(len(boxes))

    def clip(self) -> None:
        height, width = self.image.shape[:2]
        self.boxes = self.boxes.clip(0, np.float32([width, height, width, height]))

    def flip(self) -> None:
        self.image, self.masks = self.image[:, ::-1], [mask[:, ::-1] for mask in self.masks]
        x1, y1, x2, y2 = self.boxes.T
        self.boxes = np.stack([self.image.shape[1] - x2, y1, self.image.shape[1] - x1, y2], 1)

    def resize(self, short_sides) -> None:
        scale = (short_sides[np.random.randint(len(short_sides))], 1333)
        before = self.image.shape
        self.image = rescaled(np.ascontiguousarray(self.image), scale)
        self.masks = [rescaled(np.ascontiguousarray(mask), scale, cv2.INTER_NEAREST) for mask in self.masks]
        factors = np.float32([self.image.shape[1] / before[1], self.image.shape[0] / before[0]])
        self.boxes = self.boxes * np.tile(factors, 2)
        self.clip()

    def crop(self) -> None:
        """Sides are drawn from [384, 600], the position from all; a box with nothing left goes, with its mask."""
        sides = self.image.shape[:2]
        height, width = (np.random.randint(min(side, 384), min(side, 600) + 1) for side in sides)
        y, x = np.random.randint(sides[0] - height + 1), np.random.randint(sides[1] - width + 1)
        self.image = self.image[y : y + height, x : x + width]
        self.boxes = self.boxes - np.float32([x, y, x, y])
        self.clip()
        kept = np.flatnonzero((self.boxes[:, 2:] > self.boxes[:, :2]).all(1))
        self.masks = [self.masks[i][y : y + height, x : x + width] for i in kept]
        self.boxes, self.numbers = self.boxes[kept], self.numbers[kept]


def augmented_officially(image: np.ndarray, boxes: np.ndarray, masks: np.ndarray) -> Objects:
    objects = Objects(image, boxes, masks)
    if np.random.rand() < 0.5:
        objects.flip()
    if even():
        objects.resize((400, 500, 600))
        objects.crop()
    objects.resize(SHORT_SIDES)
    return objects


def test_detection_flips_resizes_and_crops_as_officially(root):
    pytest.importorskip('mmdet')
    from mmcv.transforms import Compose
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    with DefaultScope.overwrite_default_scope('mmdet'):
        ours = Compose(Config.fromfile(root / 'configs/mask_rcnn_swin_t.py').train_pipeline[2:-1])
    rng = np.random.default_rng(0)
    lost, shapes = 0, set()
    for seed in range(24):
        height, width = (int(side) for side in rng.integers(60, 500, 2))
        count = seed % 5
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * (width, height)
        boxes, masks = corners.reshape(-1, 4).astype(np.float32), rng.integers(0, 2, (count, height, width), np.uint8)
        results = dict(img=image.copy(), img_shape=(height, width), gt_bboxes=HorizontalBoxes(boxes.copy()))
        results.update(gt_bboxes_labels=np.arange(count), gt_masks=BitmapMasks(masks.copy(), height, width))
        results['gt_ignore_flags'] = np.zeros(count, bool)
        np.random.seed(seed)
        got, drawn = ours(results), np.random.rand()
        np.random.seed(seed)
        want = augmented_officially(image, boxes, masks)
        assert drawn == np.random.rand()  # as many random numbers
        np.testing.assert_array_equal(got['img'], want.image)
        assert got['gt_bboxes_labels'].tolist() == want.numbers.tolist()
        np.testing.assert_allclose(got['gt_bboxes'].numpy(), want.boxes, rtol=1e-6, atol=1e-4)
        np.testing.assert_array_equal(got['gt_masks'].masks, np.reshape(want.masks, (-1, *want.image.shape[:2])))
        lost += count - len(want.numbers)
        shapes.add(want.image.shape)
    assert lost > 0
    assert len(shapes) > 12


def changed(values: np.ndarray, factor: float = 1.0, offset: float = 0.0) -> np.ndarray:
    return np.clip(values.astype(np.float32) * factor + offset, 0, 255).astype(np.uint8)


def distorted_officially(image: np.ndarray) -> np.ndarray:
    """Each change with probability a half; the contrast before or after saturation and hue."""
    if even():
        image = changed(image, offset=np.random.uniform(-32, 32))
    contrast_first = even()
    if contrast_first and even():
        image = changed(image, np.random.uniform(0.5, 1.5))
    if even():
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = changed(hsv[..., 1], np.random.uniform(0.5, 1.5))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if even():
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + np.random.randint(-18, 18)) % 180  # degrees by two
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not contrast_first and even():
        image = changed(image, np.random.uniform(0.5, 1.5))
    return image


def cropped_officially(image: np.ndarray, labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Draws again, ten times at most, while one class has three quarters of the labelled pixels or is alone."""
    draws = 0
    while True:
        y, x = (np.random.randint(max(length - side, 0) + 1) for length in labels.shape)
        window = (slice(y, y + side), slice(x, x + side))
        counts = np.bincount(labels[window].ravel(), minlength=256)[:255]
        draws += 1
        if draws == 11 or ((counts > 0).sum() > 1 and counts.max() / counts.sum() < 0.75):
            return image[window], labels[window], draws


def input_officially(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """What the network gets, ``(3, 512, 512)``, its labels, and how often a crop was drawn."""
    ratio = 0.5 + np.random.rand() * 1.5
    scale = (int(2048 * ratio), int(512 * ratio))
    image, labels = rescaled(image, scale), rescaled(labels, scale, cv2.INTER_NEAREST)
    image, labels, draws = cropped_officially(image, labels, 512)
    if np.random.rand() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = distorted_officially(np.ascontiguousarray(image))
    height, width = labels.shape
    pixels, target = np.zeros((512, 512, 3), np.float32), np.full((512, 512), 255, np.uint8)
    pixels[:height, :width] = (image[..., ::-1] - MEAN) / STD  # filled up after this: 0 is the mean colour
    target[:height, :width] = labels
    return pixels.transpose(2, 0, 1), target, draws


def blocks(rng: np.random.Generator, height: int, width: int, classes: int) -> np.ndarray:
    """Labels of which one class has most; 255 is among the others."""
    labels = np.zeros((height, width), np.uint8)
    for label in rng.choice([1, 2, 149, 255], classes):
        y, x = rng.integers(0, height), rng.integers(0, width)
        labels[y : y + height // 2, x : x + width // 2] = label
    return labels


def test_segmentation_resizes_crops_recolours_and_fills_up_as_officially(root):
    pytest.importorskip('mmseg')
    from mmcv.transforms import Compose
    from mmengine.dataset import pseudo_collate

    cfg = Config.fromfile(root / 'configs/upernet_swin_t.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        ours, prepare = Compose(cfg.train_pipeline[2:]), MODELS.build(cfg.model.data_preprocessor)
    rng = np.random.default_rng(0)
    draws = []
    for seed in range(24):
        height, width = (int(side) for side in rng.integers(60, 500, 2))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        labels = blocks(rng, height, width, seed % 6)
        results = dict(img=image.copy(), img_shape=(height, width), gt_seg_map=labels.copy(), seg_fields=['gt_seg_map'])
        np.random.seed(seed)
        batch, drawn = prepare(pseudo_collate([ours(results)]), training=True), np.random.rand()
        np.random.seed(seed)
        pixels, target, tries = input_officially(image, labels)
        assert drawn == np.random.rand()
        torch.testing.assert_close(batch['inputs'][0], torch.from_numpy(pixels), rtol=0, atol=2e-6)
        np.testing.assert_array_equal(batch['data_samples'][0].gt_sem_seg.data[0], target)
        draws.append(tries)
    assert {1, 11} < set(draws)  # at once, again, and never
