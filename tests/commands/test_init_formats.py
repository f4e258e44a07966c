"""``swin-mm init`` on LabelMe, YOLO and Pascal VOC: objects are those of the drawings, and a folder trains as it is."""

import json
import sys
from collections import Counter

import numpy as np
import pytest
from mmengine.config import Config
from samples.own_data import NAMES, write_coco, write_labelme, write_voc, write_yolo

from swin_mm.commands import init, predict, train
from swin_mm.errors import PreflightError

pytest.importorskip('mmdet')
PICO = 'mask_rcnn_swin_pico_shapes'


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """What the tools of others would have annotated: content in COCO's format, and the folder of the images."""
    monkeypatch.chdir(tmp_path)
    folder = write_coco(tmp_path / 'source', train=10, val=0)
    return json.loads((folder / 'labels.json').read_text()), folder / 'images'


def boxes(*contents) -> dict[str, list]:
    """Class and box of each object, by the name of the image, in order."""
    found = {}
    for content in contents:
        names = {category['id']: category['name'] for category in content['categories']}
        files = {image['id']: image['file_name'] for image in content['images']}
        for a in content['annotations']:
            assert not a['iscrowd']
            found.setdefault(files[a['image_id']], []).append((names[a['category_id']], *a['bbox']))
    return {file: sorted(objects) for file, objects in found.items()}


def same_objects(written, coco, within: float) -> None:
    """The two files in ``written`` have the objects of ``coco``, to so many pixels."""
    contents = [json.loads((written / f'{name}.json').read_text()) for name in ('train', 'val')]
    ours, theirs = boxes(*contents), boxes(coco)
    assert ours.keys() == theirs.keys()
    for file, objects in theirs.items():
        assert Counter(found[0] for found in ours[file]) == Counter(found[0] for found in objects)
        for found in objects:
            near = [np.abs(np.subtract(found[1:], other[1:])).max() for other in ours[file] if other[0] == found[0]]
            assert min(near) <= within


def test_labelme_trains_and_predicts_with_no_edit(coco, tmp_path, capsys):
    write_labelme(tmp_path / 'toys', *coco)
    train.main([PICO, '--data', 'toys', '--cfg-options', 'train_cfg.max_epochs=1'])
    said = capsys.readouterr().out
    assert 'in the format of LabelMe' in said
    assert 'Objects: boxes and masks of 5 classes' in said
    same_objects(tmp_path / 'toys_data', coco[0], within=1)
    predict.main(['toys/000001.jpg', 'toys.py', 'work_dirs/toys/epoch_1.pth', '--out-dir', 'drawn'])
    assert (tmp_path / 'drawn/vis/000001.jpg').is_file()


def test_a_shape_that_is_no_object_is_refused_by_name(coco, tmp_path):
    write_labelme(tmp_path / 'toys', *coco)
    file = tmp_path / 'toys/000001.json'
    content = json.loads(file.read_text())
    content['shapes'][0]['shape_type'] = 'circle'
    file.write_text(json.dumps(content))
    with pytest.raises(PreflightError, match=r'000001.json: a shape must be a polygon .* got circle'):
        init.main(['--data', 'toys'])


@pytest.mark.parametrize('boxes_only', [False, True])
def test_yolo_trains_with_no_edit(boxes_only, coco, tmp_path):
    pytest.importorskip('supervision', reason="not installed: pip install 'swin-mm[own_data]'")
    # A line has one outline: an object in two pieces has none.
    coco[0]['annotations'] = [found for found in coco[0]['annotations'] if len(found['segmentation']) == 1]
    write_yolo(tmp_path / 'toys/train', *coco, boxes_only=boxes_only)
    names = [category['name'] for category in coco[0]['categories']]
    (tmp_path / 'toys/data.yaml').write_text(f'train: ../train/images\nnc: {len(names)}\nnames: {names}\n')
    init.main(['--data', 'toys', *([] if boxes_only else ['--model', PICO])])
    same_objects(tmp_path / 'toys_data', coco[0], within=1.5)
    cfg = Config.fromfile('toys.py')
    assert cfg.classes == NAMES
    assert cfg.model.type == ('FasterRCNN' if boxes_only else 'MaskRCNN')
    if not boxes_only:
        train.main(['toys.py', '--cfg-options', 'train_cfg.max_epochs=1'])
        assert (tmp_path / 'work_dirs/toys/epoch_1.pth').is_file()


def test_pascal_voc_gives_the_boxes(coco, tmp_path):
    pytest.importorskip('supervision', reason="not installed: pip install 'swin-mm[own_data]'")
    write_voc(tmp_path / 'toys', *coco)
    init.main(['--data', 'toys'])
    same_objects(tmp_path / 'toys_data', coco[0], within=1)
    assert Config.fromfile('toys.py').model.type == 'FasterRCNN'


def test_without_supervision_the_package_is_named(coco, tmp_path, monkeypatch):
    write_voc(tmp_path / 'toys', *coco)
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(PreflightError, match=r"needs the package supervision: pip install 'swin-mm\[own_data\]'"):
        init.main(['--data', 'toys'])
