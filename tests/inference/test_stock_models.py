"""Models of every kind of head, in mmdet's stock configs with our backbone: the head says what there is to find."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from samples.stock_detectors import STOCK, save_random_weights, write_config

from swin_mm.commands import predict
from swin_mm.inference import Detector
from swin_mm.inference.outputs import Item, Job, Writer, open_outputs

PANOPTIC = ['mask2former_panoptic', 'maskformer', 'panoptic_fpn']
BOXES_ONLY = ['retinanet', 'rtmdet']
SHAPE = (96, 128)


@pytest.fixture(scope='module')
def stock(tmp_path_factory):
    """A function from a name in `STOCK` to the narrow detector, its config and checkpoint, and what it finds."""
    made = {}

    def stock(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            cfg = write_config(folder, name)
            checkpoint = save_random_weights(cfg, folder)
            detector = Detector(cfg, checkpoint, 'cpu')
            image = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
            made[name] = SimpleNamespace(
                cfg=cfg, checkpoint=checkpoint, detector=detector, image=image, found=detector(image)[0]
            )
        return made[name]

    return stock


@pytest.mark.parametrize('name', STOCK)
def test_the_result_has_what_the_head_gives(stock, name):
    found, classes = stock(name).found, stock(name).detector.classes
    number = len(found.scores)
    assert (number > 0) is (name not in ('maskformer', 'panoptic_fpn'))
    assert len(classes) == (133 if name in PANOPTIC else 80)
    assert found.boxes.shape == (number, 4)
    assert (np.diff(found.scores) <= 0).all()
    assert found.names == [classes[label] for label in found.labels]
    assert (found.masks is None) is (name in [*BOXES_ONLY, 'maskformer', 'panoptic_fpn'])
    assert (found.panoptic is not None) is (name in PANOPTIC)
    if found.masks is not None:
        assert found.masks.shape == (number, *SHAPE)
        assert found.masks.any()
    assert number == 0 or (found.boxes[:, 2:] > found.boxes[:, :2]).any()


def as_mmdet_writes_it(folder, detector, sample):
    """The JSON of mmdet's ``DetInferencer``; it writes ``0_panoptic_seg.png`` with panopticapi, which is not here."""
    from mmdet.apis import det_inferencer

    def id2rgb(ids):  # its definition: the digits to base 256
        return np.stack([ids // 256**i % 256 for i in range(3)], axis=-1)

    inferencer = SimpleNamespace(model=detector.model, num_predicted_imgs=0)
    detector.model.dataset_meta = detector.dataset_meta
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(det_inferencer, 'VOID', 0)
        patch.setattr(det_inferencer, 'id2rgb', id2rgb)
        sample = copy.deepcopy(sample)  # it overwrites the numbers
        sample.set_metainfo(dict(img_path='0.jpg'))
        return det_inferencer.DetInferencer.pred2dict(inferencer, sample, str(folder))


def write(folder, one, found):
    """The drawn image and the predictions of a stock detector, written as x.*."""
    writer = Writer(open_outputs(['vis', 'json'], Job(folder, one.detector.classes)))
    return writer.write(Item(1, 'x', 'x.png', one.image, found))


@pytest.mark.parametrize('name', STOCK)
def test_predictions_are_written_as_mmdet_writes_them(stock, name, tmp_path):
    detector, found = stock(name).detector, stock(name).found
    expected = as_mmdet_writes_it(tmp_path / 'mmdet', detector, found.sample)
    files = {path.name: path for path in write(tmp_path, stock(name), found)}
    with Image.open(files['x.jpg']) as drawn:
        assert drawn.size == SHAPE[::-1]
    written = json.loads(files['x.json'].read_text())
    best_first = np.argsort(-np.array(expected.get('scores', [])), kind='stable')  # Mask2Former's are in no order
    for key in ('labels', 'scores', 'bboxes', 'masks'):
        theirs = [expected[key][i] for i in best_first] if key in expected else []
        if key == 'masks':
            assert [coco.decode(code).tolist() for code in written.get(key, [])] == [
                coco.decode(code).tolist() for code in theirs
            ]
        else:
            np.testing.assert_allclose(np.array(written[key]), np.array(theirs).reshape(np.shape(written[key])))
    assert ('panoptic_seg_path' in written) is (name in PANOPTIC)
    if name in PANOPTIC:
        assert written['panoptic_seg_path'] == str(files['x_panoptic_seg.png'])
        ours, theirs = np.asarray(Image.open(files['x_panoptic_seg.png'])), Image.open(expected['panoptic_seg_path'])
        np.testing.assert_array_equal(ours, np.asarray(theirs))
        numbers = np.unique((ours * [1, 256, 65536]).sum(axis=2))
        assert {info['id'] for info in written['segments_info']} | {0} == set(numbers.tolist()) | {0}


@pytest.mark.parametrize('name', PANOPTIC)
def test_segments_cover_what_the_panoptic_map_says(stock, name):
    detector, found = stock(name).detector, stock(name).found
    numbers, panoptic = found.sample.pred_panoptic_seg.sem_seg[0].numpy(), found.panoptic
    assert panoptic.segments.shape == SHAPE
    assert len(panoptic.labels) > 1
    for y, x in np.ndindex(SHAPE):
        segment = panoptic.segments[y, x]
        label = numbers[y, x] % 1000  # mmdet: label + 1000 * object
        assert (segment == -1) == (label == 133)
        if segment >= 0:
            assert (panoptic.ids[segment], panoptic.labels[segment]) == (numbers[y, x], label)
            assert panoptic.names[segment] == detector.classes[label]


def test_a_panoptic_map_of_nothing_is_written_and_drawn(stock, tmp_path):
    cfg = stock('maskformer').cfg.copy()
    cfg.model.test_cfg.object_mask_thr = 1.1
    detector = Detector(cfg, stock('maskformer').checkpoint, 'cpu')
    (found,) = detector(stock('maskformer').image)
    assert (found.panoptic.segments == -1).all()
    assert found.panoptic.names == []
    files = write(tmp_path, stock('maskformer'), found)
    assert not np.asarray(Image.open(files[1])).any()
    assert json.loads(files[2].read_text())['segments_info'] == []
    assert files[0].name == 'x.jpg'


def test_predict_writes_panoptic_results(stock, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stock('panoptic_fpn').cfg.dump('panoptic.py')
    Image.fromarray(stock('panoptic_fpn').image).save('street.png')
    assert predict.main(['street.png', 'panoptic.py', str(stock('panoptic_fpn').checkpoint)]) == 0
    written = ['outputs/vis/street.jpg', 'outputs/preds/street_panoptic_seg.png', 'outputs/preds/street.json']
    assert capsys.readouterr().out.split() == written
    assert json.loads((tmp_path / written[2]).read_text())['segments_info']
