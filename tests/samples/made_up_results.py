"""Made-up annotations and predictions of a detector with every kind of error, in COCO's format."""

from typing import Any

import numpy as np

WIDTH, HEIGHT = 640, 480
CATEGORIES = {3: 'cat', 1: 'dog', 7: 'cup'}  # ids of a file that is not sorted


def annotations(objects: list[dict[str, Any]], images: int) -> dict[str, Any]:
    """The annotation file of ``objects``, each with image_id, category_id and bbox."""
    for number, item in enumerate(objects):  # from 0 on, as Roboflow numbers them
        item.update(dict(id=number, area=item['bbox'][2] * item['bbox'][3], iscrowd=item.get('iscrowd', 0)))
    return dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=WIDTH, height=HEIGHT) for i in range(images)],
        annotations=objects,
        categories=[dict(id=number, name=name) for number, name in CATEGORIES.items()],
    )


def made_up(seed: int = 0, images: int = 12) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """37 objects of each class and noisy predictions: moved, of other classes, several for one, of nothing."""
    random = np.random.default_rng(seed)
    numbers = list(CATEGORIES)
    objects = [_object(random, int(random.integers(images)), number) for number in numbers for _ in range(37)]
    found = []
    for item in objects:
        for _ in range(int(random.choice(4, p=[0.2, 0.4, 0.3, 0.1]))):
            box = np.array(item['bbox'])
            moved = box + random.normal(0, random.choice([0.03, 0.25]), 4) * np.tile(box[2:], 2)
            number = item['category_id'] if random.random() < 0.8 else int(random.choice(numbers))
            found.append(_result(random, item['image_id'], number, [*moved[:2], *np.maximum(moved[2:], 2)]))
    for _ in range(30):
        stray = _object(random, int(random.integers(images)), int(random.choice(numbers)))
        found.append(_result(random, *stray.values()))
    return annotations(objects, images), found


def _object(random: np.random.Generator, image: int, number: int) -> dict[str, Any]:
    width, height = np.exp(random.uniform(np.log(8), np.log(220), 2))
    x, y = random.uniform(0, [WIDTH - width, HEIGHT - height])
    return dict(image_id=image, category_id=number, bbox=[float(value) for value in (x, y, width, height)])


def _result(random: np.random.Generator, image: int, number: int, box: list) -> dict[str, Any]:
    return dict(image_id=image, category_id=number, bbox=list(map(float, box)), score=float(random.random()))
