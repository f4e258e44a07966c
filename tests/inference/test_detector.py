"""A detector gives what mmdet's own inference gives, and refuses what does not belong to it."""

import copy
import os
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from samples.tiny_training import CLASSES, SIZES

from swin_mm.inference import Detector, load_checkpoint


@pytest.fixture(scope='module')
def detector(tiny):
    return Detector(tiny.config, tiny.checkpoint)


@pytest.fixture(scope='module')
def paths(tiny):
    return sorted(tiny.data.glob('images/*.jpg'))


@pytest.fixture
def resaved(tiny, tmp_path):
    """Saves the trained checkpoint again after a change to it."""

    def save(change):
        loaded = load_checkpoint(tiny.checkpoint)
        loaded = change(loaded) or loaded
        torch.save(loaded, tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return save


def equal(one, other, **tolerance):
    for field in ('boxes', 'scores', 'labels', 'masks'):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), err_msg=field, **tolerance)
    return True


def test_equals_mmdets_own_inference(tiny, detector, paths):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(str(tiny.config), str(tiny.checkpoint), device='cpu')
    for path, found in zip(paths, detector(paths), strict=True):
        expected = inference_detector(model, str(path)).pred_instances
        assert len(found.scores) == 5
        np.testing.assert_array_equal(found.boxes, expected.bboxes)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.masks, expected.masks)


def test_results_are_arrays_in_pixels_of_the_image(detector, paths):
    for (height, width), found in zip(SIZES, detector(paths), strict=True):
        n = len(found.scores)
        assert found.boxes.shape == (n, 4)
        assert found.masks.shape == (n, height, width)
        assert found.masks.dtype == bool
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width, height, width, height]).all()
        assert (np.diff(found.scores) <= 0).all()
        assert found.names == [CLASSES[label] for label in found.labels]


def test_path_text_array_and_list_agree(detector, paths):
    (found,) = detector(paths[0])
    array = np.asarray(Image.open(paths[0]))[..., ::-1]  # RGB to BGR, as a view
    for same in (str(paths[0]), array, array.copy(), [paths[0]], (array,)):
        assert equal(detector(same)[0], found, atol=0)
    assert detector([]) == []


def test_batches_keep_the_order(detector, paths):
    first = detector.read(paths[0])
    images = [first, np.ascontiguousarray(first[:, ::-1]), first // 2]  # of one size: the same padding, alone or not
    singles = detector(images)
    for size in (2, 3, 5):
        assert all(equal(*pair, atol=1e-3) for pair in zip(detector(images, size), singles, strict=True))
    with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
        detector(paths, batch_size=0)


def test_images_are_upright_by_their_exif_tag(detector, tmp_path):
    image = Image.new('RGB', (40, 30), 'red')
    image.paste('blue', (0, 0, 20, 30))
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned by 90 degrees
    image.save(tmp_path / 'turned.jpg', exif=exif)
    pixels = detector.read(tmp_path / 'turned.jpg')
    assert pixels.shape == (40, 30, 3)
    assert pixels[5, 15, 0] > 200  # the left half, blue, is now above; channel 0 is blue
    assert pixels[35, 15, 2] > 200


@pytest.mark.parametrize(
    ('content', 'words'),
    [(None, 'no such file'), (b'', 'the file is empty'), (b'<html>', 'not an image that OpenCV can decode')],
)
def test_unusable_file_is_named_with_the_reason(detector, paths, tmp_path, content, words):
    bad = tmp_path / 'bad.jpg'
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=f'{re.escape(str(bad))}: {words}'):
        detector([paths[0], bad])


@pytest.mark.parametrize(
    'array',
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
    ],
    ids=str,
)
def test_unusable_array_is_named_with_its_type_and_shape(detector, paths, array):
    words = rf'images\[1\] must be a uint8 array .*, got {array.dtype} {re.escape(str(array.shape))}'
    with pytest.raises(ValueError, match=words):
        detector([paths[0], array])


def names_of(tiny, checkpoint, config=None):
    return Detector(config or tiny.config, checkpoint, device='cpu').classes


def test_class_names_come_from_the_checkpoint(tiny, resaved):
    def renamed(loaded):
        loaded['meta']['dataset_meta']['classes'] = ('cat', 'dog')

    def as_before_mmdet_3(loaded):
        loaded['meta'] = {'CLASSES': ('cow', 'hen'), 'mmdet_version': '2.11.0'}

    assert names_of(tiny, tiny.checkpoint) == list(CLASSES)
    assert names_of(tiny, resaved(renamed)) == ['cat', 'dog']
    assert names_of(tiny, resaved(as_before_mmdet_3)) == ['cow', 'hen']


def test_class_names_come_from_the_config_if_the_checkpoint_has_none(tiny, resaved):
    bare = resaved(lambda loaded: loaded['state_dict'])
    assert names_of(tiny, bare) == list(CLASSES)

    config = Config.fromfile(tiny.config)
    del config.test_dataloader.dataset.metainfo  # leaves the 80 names of COCO for a head of two classes
    with pytest.raises(ValueError, match=r'num_classes=2 and 80 names \(person, bicycle, car, \.\.\.\)'):
        Detector(config, bare)


def test_names_of_another_number_of_classes_are_refused(tiny, resaved):
    def renamed(loaded):
        loaded['meta']['dataset_meta']['classes'] = ('a', 'b', 'c')

    with pytest.raises(ValueError, match=r'num_classes=2 and 3 names'):
        Detector(tiny.config, resaved(renamed))


def test_other_weights_are_refused_by_name(tiny, resaved, tmp_path):
    def without_a_layer(loaded):
        del loaded['state_dict']['neck.lateral_convs.0.conv.weight']

    with pytest.raises(ValueError, match=r'does not belong to this config(.|\n)*neck\.lateral_convs\.0\.conv\.weight'):
        Detector(tiny.config, resaved(without_a_layer))
    config = Config.fromfile(tiny.config)
    config.model.roi_head.bbox_head.num_classes = 7
    with pytest.raises(ValueError, match=r'does not belong to this config(.|\n)*bbox_head\.fc_cls\.weight'):
        Detector(config, tiny.checkpoint)


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_checkpoint_that_runs_code_is_refused_and_does_not_run(tiny, resaved, tmp_path):
    target = tmp_path / 'ran'
    checkpoint = resaved(lambda loaded: loaded['meta'].update(x=Command(target)))
    with pytest.raises(ValueError, match=r'changed\.pth holds Python objects \(posix\.mkdir\), which could run code'):
        Detector(tiny.config, checkpoint)
    assert not target.exists()
    torch.load(checkpoint, weights_only=False)  # it would have
    assert target.exists()


def test_config_inside_a_checkpoint_is_not_read(tiny, resaved, tmp_path):
    text = f'model = __import__("os").mkdir({str(tmp_path / "ran")!r})\n'

    def hostile(loaded):
        loaded['meta'].update(config=text, cfg=text)
        loaded['message_hub'] = {'runtime_info': {'cfg': text}}

    Detector(tiny.config, resaved(hostile))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('content', [b'', b'hello world', b'PK\x03\x04 and no more', b'list', b'object'])
def test_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'bad.pth'
    path.write_bytes(content)
    words = 'is not a checkpoint, or a damaged one'
    if content == b'list':
        torch.save([1, 2], path)
        words = 'must hold a dictionary of tensors, got list'
    if content == b'object':
        torch.save({'net': torch.nn.Linear(1, 1)}, path)
        words = r'holds Python objects \(torch\.nn\.modules\.linear\.Linear\)'
    with pytest.raises(ValueError, match=f'{re.escape(str(path))} {words}'):
        load_checkpoint(path)


def test_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone'):
        load_checkpoint(tmp_path / 'gone.pth')
    with pytest.raises(OSError, match=r'http://127\.0\.0\.1:1/gone\.pth: .*refused'):
        load_checkpoint('http://127.0.0.1:1/gone.pth')


def test_device_that_is_not_there_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='got device=cuda:0 without a CUDA device'):
        Detector(tiny.config, tiny.checkpoint, device='cuda:0')
    assert Detector(tiny.config, tiny.checkpoint).device.type == 'cpu'


def test_pipeline_must_read_files(tiny):
    config = Config.fromfile(tiny.config)
    config.test_dataloader.dataset.pipeline = copy.deepcopy(config.test_dataloader.dataset.pipeline)[1:]
    with pytest.raises(ValueError, match=r'must begin with LoadImageFromFile or swin_mm\.LoadBands, got Resize'):
        Detector(config, tiny.checkpoint)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_takes_the_gpu_by_itself(tiny, paths, detector):
    assert detector.device.type == 'cuda'
    (cpu,) = Detector(tiny.config, tiny.checkpoint, device='cpu')(paths[0])
    np.testing.assert_allclose(detector(paths[0])[0].scores, cpu.scores, atol=1e-3)
