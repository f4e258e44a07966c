"""A segmentor gives what mmseg's own inference gives, at any size, whole or in windows, under its own class names."""

import copy
import re

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadAnnotations
from mmengine.config import Config
from PIL import Image
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, picture, save_checkpoint
from samples.tiny_training import trained

from swin_mm.inference import Detector, Segmentor

SIZES = [(61, 97), (160, 160), (61, 97), (33, 150)]
META = {'dataset_meta': {'classes': CLASSES, 'palette': PALETTE}}
MODES = {
    'whole': dict(mode='whole'),
    'slide': dict(mode='slide', crop_size=(48, 64), stride=(31, 40)),
}


def config(mode='whole') -> Config:
    cfg = Config.fromfile(CONFIG)
    cfg.model.test_cfg = MODES[mode]
    return cfg


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp('segmentor') / 'pico.pth', config(), **META)


@pytest.fixture(scope='module', params=MODES)
def segmentor(request, checkpoint):
    return Segmentor(config(request.param), checkpoint, device='cpu')


@pytest.fixture(scope='module')
def whole(checkpoint):
    return Segmentor(config(), checkpoint, device='cpu')


@pytest.fixture(scope='module')
def images():
    return [picture(*size, seed=i) for i, size in enumerate(SIZES)]


@pytest.fixture
def resaved(checkpoint, tmp_path):
    """Saves the checkpoint again with other notes beside its weights."""

    def save(**meta):
        loaded = torch.load(checkpoint, weights_only=True)
        torch.save({'state_dict': loaded['state_dict'], 'meta': meta}, tmp_path / 'changed.pth')
        return tmp_path / 'changed.pth'

    return save


def test_equals_mmsegs_own_inference(segmentor, checkpoint, images):
    from mmseg.apis import inference_model, init_model

    cfg = config(segmentor.model.test_cfg.mode)
    model = init_model(cfg, str(checkpoint), device='cpu')
    for image, found in zip(images, segmentor(images), strict=True):
        expected = inference_model(model, image).pred_sem_seg.data[0]
        np.testing.assert_array_equal(found.labels, expected)
        assert len(np.unique(found.labels)) >= 3


def test_results_are_labels_of_the_pixels_and_shares_of_the_classes(segmentor, images):
    for (height, width), found in zip(SIZES, segmentor(images), strict=True):
        assert found.labels.shape == (height, width)
        assert found.labels.dtype == np.int64
        assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)
        expected = {name: (found.labels == i).mean() for i, name in enumerate(CLASSES) if i in found.labels}
        assert found.shares == pytest.approx(expected)
        assert 'seg_logits' not in found.sample
        np.testing.assert_array_equal(found.sample.pred_sem_seg.data[0], found.labels)


def test_path_text_array_and_list_agree(whole, tmp_path, images):
    Image.fromarray(images[0]).save(tmp_path / 'a.png')
    expected = whole(images[0][..., ::-1])[0].labels  # RGB to BGR, as a view
    for same in (tmp_path / 'a.png', str(tmp_path / 'a.png'), [tmp_path / 'a.png'], images[0][..., ::-1].copy()):
        (found,) = whole(same)
        np.testing.assert_array_equal(found.labels, expected)
    assert whole([]) == []


@pytest.mark.parametrize('size', [2, 3, 5])
def test_pictures_of_several_sizes_share_a_batch_in_order(whole, images, size):
    mixed = [images[0], images[2], *images]
    for alone, found in zip(map(whole, mixed), whole(mixed, batch_size=size), strict=True):
        assert (found.labels == alone[0].labels).mean() > 0.999  # sums may come in another order


def test_pictures_resized_to_one_size_keep_their_own(checkpoint, images):
    cfg = config()
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='Resize', scale=(64, 64)))
    found = Segmentor(cfg, checkpoint, device='cpu')(images, batch_size=4)
    assert [one.labels.shape for one in found] == SIZES


# Pictures smaller than a patch, than an attention window and than a sliding one; sides that nothing divides.
@pytest.mark.parametrize('size', [(1, 1), (3, 2), (5, 9), (47, 65), (101, 203)], ids=str)
def test_any_size_gives_a_map_of_that_size(segmentor, size):
    (found,) = segmentor(picture(*size))
    assert found.labels.shape == size
    assert 0 <= found.labels.min() <= found.labels.max() < len(CLASSES)


@pytest.mark.parametrize(('mode', 'windows'), [('whole', {}), ('slide', dict(crop_size=(160, 640), stride=(120, 600)))])
def test_panorama(checkpoint, mode, windows):
    cfg = config(mode)
    cfg.model.test_cfg.update(windows)
    (found,) = Segmentor(cfg, checkpoint, device='cpu')(picture(200, 10000))
    assert found.labels.shape == (200, 10000)
    assert len(found.shares) >= 3


def starts(side, crop, stride):
    return [*range(0, side - crop, stride), side - crop] if side > crop else [0]


@pytest.mark.parametrize('size', [(5, 9), (48, 64), (49, 64), (75, 131)], ids=str)
@pytest.mark.parametrize('stride', [(31, 40), (48, 64), (16, 64)], ids=str)
def test_sliding_is_the_average_of_overlapping_windows(checkpoint, size, stride):
    cfg = config('slide')
    cfg.model.test_cfg.stride = stride
    segmentor = Segmentor(cfg, checkpoint, device='cpu')
    image = picture(*size)
    mean, std = (torch.tensor(cfg.model.data_preprocessor[key])[:, None, None] for key in ('mean', 'std'))
    inputs = ((torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) - mean) / std)[None]

    total, seen = torch.zeros(len(CLASSES), *size), torch.zeros(size)
    with torch.no_grad():
        for y in starts(size[0], 48, stride[0]):
            for x in starts(size[1], 64, stride[1]):
                window = inputs[:, :, y : y + 48, x : x + 64]
                maps = segmentor.model.decode_head(segmentor.model.backbone(window))
                logits = torch.nn.functional.interpolate(maps, window.shape[2:], mode='bilinear', align_corners=False)
                total[:, y : y + 48, x : x + 64] += logits[0]
                seen[y : y + 48, x : x + 64] += 1
        logits = segmentor.model.slide_inference(inputs, [{}])[0]
    expected = total / seen
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-4)
    first, second = expected.topk(2, dim=0).values
    clear = (first - second > 1e-3).numpy()
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(segmentor(image)[0].labels[clear], expected.argmax(0).numpy()[clear])


def meta_of(checkpoint, cfg=None):
    segmentor = Segmentor(cfg or config(), checkpoint, device='cpu')
    assert segmentor.classes == list(segmentor.dataset_meta['classes'])
    return segmentor.classes, segmentor.dataset_meta['palette']


def test_names_and_colours_come_from_the_checkpoint(checkpoint, resaved):
    names = [*'abcdef']
    assert meta_of(checkpoint) == (list(CLASSES), PALETTE)
    assert meta_of(resaved(dataset_meta=dict(classes=names, palette=PALETTE))) == (names, PALETTE)
    assert meta_of(resaved(CLASSES=names, PALETTE=PALETTE, mmseg_version='0.11.0')) == (names, PALETTE)


def test_names_and_colours_come_from_the_config_if_the_checkpoint_has_none(resaved):
    bare = resaved()
    colours = Config.fromfile(CONFIG)
    colours.test_dataloader.dataset.metainfo = dict(palette=PALETTE)
    assert meta_of(bare, colours) == (list(CLASSES), PALETTE)

    unnamed = config()
    unnamed.test_dataloader.dataset.type = 'BaseSegDataset'
    with pytest.raises(ValueError, match='class names are neither in the checkpoint nor in the config'):
        meta_of(bare, unnamed)
    unnamed.test_dataloader.dataset.type = 'CityscapesDataset'  # 19 classes
    with pytest.raises(ValueError, match=r'num_classes=6 and 19 names \(road, sidewalk, building, \.\.\.\)'):
        meta_of(bare, unnamed)


def test_colours_of_other_names_are_not_taken(resaved):
    assert meta_of(resaved(CLASSES=[*'abcdef'])) == ([*'abcdef'], 'random')
    _, palette = meta_of(resaved(CLASSES=CLASSES))
    assert palette[1:] == Segmentor(config(), resaved(), device='cpu').dataset_meta['palette'][1:]
    assert palette != 'random'


def test_labels_of_a_head_with_one_output_channel_are_indices(tmp_path):
    cfg = config()
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(num_classes=2, out_channels=1, threshold=0.5)
        head.loss_decode.use_sigmoid = True
    names = ('nothing', 'something')
    path = save_checkpoint(tmp_path / 'two.pth', cfg, dataset_meta=dict(classes=names, palette=PALETTE[:2]))
    (found,) = Segmentor(cfg, path, device='cpu')(picture(64, 96))
    assert found.labels.dtype == np.int64
    assert set(found.shares) == set(names)
    assert found.shares['something'] == found.labels.mean()


class CheckedLabels(LoadAnnotations):
    """Stands for any loader of labels."""


@pytest.mark.parametrize('labels', ['LoadAnnotations', CheckedLabels])
def test_pictures_need_no_labels_wherever_the_config_loads_them(checkpoint, images, whole, labels):
    cfg = config()
    steps = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    cfg.test_dataloader.dataset.pipeline = copy.deepcopy([steps[0], dict(type=labels), steps[1]])
    (found,) = Segmentor(cfg, checkpoint, device='cpu')(images[0])
    np.testing.assert_array_equal(found.labels, whole(images[0])[0].labels)


def test_the_other_task_is_refused(checkpoint):
    path = re.escape(str(CONFIG))
    words = rf"default_scope='mmdet' for a Detector, got 'mmseg' in {path}: use a Segmentor"
    with pytest.raises(ValueError, match=words):
        Detector(CONFIG, checkpoint)
    path = CONFIG.with_name('mask_rcnn_swin_pico_shapes.py')
    with pytest.raises(ValueError, match=r"default_scope='mmseg' for a Segmentor, got 'mmdet' in .*: use a Detector"):
        Segmentor(path, checkpoint)


def test_other_weights_are_refused_by_name(checkpoint):
    cfg = config()
    cfg.model.decode_head.channels = 32
    with pytest.raises(ValueError, match=r'does not belong to this config(.|\n)*decode_head'):
        Segmentor(cfg, checkpoint, device='cpu')


def test_detector_and_segmentor_take_turns(whole, images, tmp_path_factory):
    tiny = trained(tmp_path_factory.getbasetemp())
    labels = whole(images[0])[0].labels
    detector = Detector(tiny.config, tiny.checkpoint, device='cpu')
    scores = detector(images[0])[0].scores
    np.testing.assert_array_equal(whole(images[0])[0].labels, labels)
    np.testing.assert_array_equal(detector(images[0])[0].scores, scores)
