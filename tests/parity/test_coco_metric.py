"""The recipe's COCO metric is pycocotools', with crowds, images without objects and images where nothing is found."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

SIDE = 96
CLASSES = [1, 18]  # ids of person and dog in COCO
# Image, class, x, y, width, height, is a crowd. Image 2 has no object, in image 3 nothing is found.
OBJECTS = [
    (1, 1, 5, 5, 30, 40, 0),
    (1, 1, 40, 10, 50, 60, 1),
    (1, 18, 8, 60, 25, 25, 0),
    (3, 1, 20, 20, 40, 30, 0),
    (4, 18, 10, 10, 60, 50, 0),
    (4, 1, 2, 70, 20, 20, 0),
]
# Image, class, x, y, width, height, score: hits, near misses, three inside the crowd, false alarms.
FOUND = [
    (1, 1, 6, 4, 30, 41, 0.9),
    (1, 1, 45, 15, 20, 20, 0.95),
    (1, 1, 60, 30, 25, 30, 0.8),
    (1, 1, 42, 12, 46, 55, 0.7),
    (1, 18, 10, 62, 25, 25, 0.6),
    (2, 18, 10, 10, 30, 30, 0.85),
    (2, 1, 30, 30, 40, 40, 0.3),
    (4, 18, 13, 14, 60, 50, 0.5),
    (4, 18, 60, 60, 20, 20, 0.65),
    (4, 1, 3, 71, 20, 20, 0.2),
]


def mask_of(x: int, y: int, width: int, height: int) -> np.ndarray:
    """A box without its lower right quarter."""
    mask = np.zeros((SIDE, SIDE), np.uint8, order='F')
    mask[y : y + height, x : x + width] = 1
    mask[y + height // 2 : y + height, x + width // 2 : x + width] = 0
    return mask


def rle(mask: np.ndarray) -> dict:
    from pycocotools import mask as masks

    encoded = masks.encode(mask)
    return dict(encoded, counts=encoded['counts'].decode())


def annotations() -> dict:
    found = []
    for number, (image, kind, *box, crowd) in enumerate(OBJECTS, 1):
        mask = mask_of(*box)
        found.append(dict(id=number, image_id=image, category_id=kind, bbox=box, iscrowd=crowd, area=int(mask.sum())))
        found[-1]['segmentation'] = rle(mask)
    images = [dict(id=i, file_name=f'{i}.jpg', width=SIDE, height=SIDE) for i in range(1, 5)]
    categories = [dict(id=1, name='person'), dict(id=18, name='dog')]
    return dict(images=images, annotations=found, categories=categories)


def by_hand(file, kind: str) -> np.ndarray:
    """pycocotools as its own demo calls it; the six average precisions."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(file))
    found = [dict(image_id=i, category_id=c, score=score) for i, c, *_, score in FOUND]
    for entry, (_, _, *box, _) in zip(found, FOUND, strict=True):
        entry.update(dict(bbox=box) if kind == 'bbox' else dict(segmentation=rle(mask_of(*box))))
    evaluation = COCOeval(truth, truth.loadRes(found), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[:6]


def samples(dataset) -> list[dict]:
    """What the model would give for each image of ``dataset``."""
    import torch

    result = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        mine = [entry for entry in FOUND if entry[0] == info['img_id']]
        boxes = torch.tensor([[x, y, x + w, y + h] for _, _, x, y, w, h, _ in mine]).reshape(-1, 4).float()
        masks = torch.tensor(np.array([mask_of(*entry[2:6]) for entry in mine])).reshape(-1, SIDE, SIDE).bool()
        labels, scores = torch.tensor([CLASSES.index(e[1]) for e in mine]), torch.tensor([e[-1] for e in mine])
        found = dict(bboxes=boxes, scores=scores, labels=labels.long(), masks=masks)
        result.append(dict(img_id=info['img_id'], ori_shape=(SIDE, SIDE), pred_instances=found))
    return result


def test_every_image_counts_and_the_numbers_are_those_of_pycocotools(root, tmp_path):
    pytest.importorskip('mmdet')
    from mmengine.evaluator import Evaluator

    file = tmp_path / 'annotations.json'
    file.write_text(json.dumps(annotations()))
    cfg = Config.fromfile(root / 'configs/mask_rcnn_swin_t.py')
    cfg.val_dataloader.dataset.update(ann_file=str(file), metainfo=dict(classes=('person', 'dog')))
    cfg.val_evaluator.ann_file = str(file)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        evaluator = Evaluator(cfg.val_evaluator)
        evaluator.dataset_meta = dataset.metainfo
        evaluator.process(samples(dataset))
        got = evaluator.evaluate(len(dataset))
    assert len(dataset) == 4
    names = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
    for kind in ('bbox', 'segm'):
        want = by_hand(file, kind)
        assert 0 < want[0] < 1
        assert [got[f'coco/{kind}_{name}'] for name in names] == pytest.approx(want, abs=5.1e-4), kind  # three decimals
