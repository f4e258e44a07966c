"""``swin-mm init`` on LabelMe, CVAT, YOLO and Pascal VOC: objects are those drawn; a folder trains as it is."""

import json
import re
import sys
from collections import Counter

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from samples.own_data import NAMES, write_coco, write_cvat, write_labelme, write_voc, write_yolo

from swin_mm.commands import init, predict, train
from swin_mm.datasets.checks import check_data
from swin_mm.datasets.own import convert
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


@pytest.mark.parametrize('project', [False, True])
def test_cvat_gives_boxes_and_masks(project, coco, tmp_path, capsys):
    pytest.importorskip('defusedxml', reason="not installed: pip install 'swin-mm[own_data]'")
    write_cvat(tmp_path / 'toys', *coco, project=project)
    init.main(['--data', 'toys'])
    said = capsys.readouterr().out
    assert 'in the format of CVAT' in said
    assert 'Objects: boxes and masks of 5 classes' in said
    assert ('A fifth of the images' in said) is not project
    cfg = Config.fromfile('toys.py')
    assert cfg.classes == NAMES  # in the order of the labels
    assert check_data(cfg).of('error') == []
    for part in (tmp_path / 'toys_data').iterdir():  # the drawings have no such folders
        part.write_text(re.sub(r'images/((Train|Validation)/)?', '', part.read_text()))
    same_objects(tmp_path / 'toys_data', coco[0], within=1)


def cvat_image(folder, shapes: str, before: str = '') -> None:
    """An export of one image, 16 x 12."""
    (folder / 'images').mkdir(parents=True)
    Image.new('RGB', (16, 12)).save(folder / 'images/1.png')
    image = f'<image id="0" name="1.png" width="16" height="12">{shapes}</image>'
    (folder / 'annotations.xml').write_text(f'{before}<annotations><version>1.1</version>{image}</annotations>')


def test_boxes_and_masks_of_cvat_are_pixels_of_the_image(tmp_path):
    """A mask's run lengths go along the rows of its own box, zeros first: here an L of 2 x 3 pixels."""
    pytest.importorskip('defusedxml', reason="not installed: pip install 'swin-mm[own_data]'")
    mask = '<mask label="l" rle="0, 1, 1, 1, 1, 2" left="5" top="7" width="2" height="3" z_order="0"></mask>'
    corner = '<mask label="l" rle="0, 2" left="0" top="0" width="1" height="2"></mask>'
    cvat_image(tmp_path, f'{mask}{corner}<box label="b" xtl="1.5" ytl="2" xbr="4" ybr="6" occluded="0"></box>')
    content = convert(tmp_path, tmp_path)[1]['train'].content
    pixels = [coco_mask.decode(coco_mask.frPyObjects(a['segmentation'], 12, 16)) for a in content['annotations'][:2]]
    assert np.argwhere(pixels[0]).tolist() == [[7, 5], [8, 5], [9, 5], [9, 6]]
    assert np.argwhere(pixels[1]).tolist() == [[0, 0], [1, 0]]
    assert [a['bbox'] for a in content['annotations']] == [[5, 7, 2, 3], [0, 0, 1, 2], [1.5, 2, 2.5, 4]]
    assert [a['area'] for a in content['annotations']] == [4, 2, 10]
    assert content['annotations'][2]['segmentation'] == []


FAULTS = {
    'a line': ('<polyline label="l" points="1,1;2,2;3,3"></polyline>', 'must be a polygon .* got polyline'),
    'a rotated box': ('<box label="b" xtl="1" ytl="2" xbr="4" ybr="6" rotation="30.0"></box>', 'b is rotated: draw'),
    'a mask cut short': (
        '<mask label="l" rle="3" left="0" top="0" width="2" height="2"></mask>',
        'not of its own size',
    ),
    'an empty mask': ('<mask label="l" rle="4" left="0" top="0" width="2" height="2"></mask>', 'a mask of l is empty'),
    'a box without a corner': ('<box label="b" xtl="1" ytl="2" xbr="4"></box>', 'image 1.png cannot be read'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_what_is_no_object_of_cvat_is_refused_by_name(fault, tmp_path):
    pytest.importorskip('defusedxml', reason="not installed: pip install 'swin-mm[own_data]'")
    shapes, reason = FAULTS[fault]
    cvat_image(tmp_path, shapes)
    with pytest.raises(PreflightError, match=f'annotations.xml: .*{reason}'):
        convert(tmp_path, tmp_path)


def test_entities_are_refused_before_they_blow_up(tmp_path):
    pytest.importorskip('defusedxml', reason="not installed: pip install 'swin-mm[own_data]'")
    cvat_image(tmp_path, '&b;', before='<!DOCTYPE x [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;">]>')
    with pytest.raises(PreflightError, match=r'annotations.xml cannot be read as XML: DTDForbidden'):
        convert(tmp_path, tmp_path)


def test_a_video_of_cvat_and_an_image_that_is_gone_are_said(tmp_path):
    pytest.importorskip('defusedxml', reason="not installed: pip install 'swin-mm[own_data]'")
    cvat_image(tmp_path, '<box label="b" xtl="1" ytl="2" xbr="4" ybr="6"></box>')
    (tmp_path / 'images/1.png').unlink()
    with pytest.raises(PreflightError, match=r'image 1.png is neither beside it nor in its folder images'):
        convert(tmp_path, tmp_path)
    (tmp_path / 'annotations.xml').write_text('<annotations><track id="0" label="car"></track></annotations>')
    with pytest.raises(PreflightError, match=r"tracks of a video: export it as 'CVAT for images 1.1'"):
        convert(tmp_path, tmp_path)
