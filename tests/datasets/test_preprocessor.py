"""Data preprocessors for any number of channels: for three they are mmdet's and mmseg's own."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

MEANS, STDS = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0], [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
NAMES = {'mmdet': 'DetDataPreprocessor', 'mmseg': 'SegDataPreProcessor'}
SIZES = ((40, 50), (64, 33))


@pytest.fixture(params=NAMES)
def scope(request):
    pytest.importorskip(request.param)
    init_default_scope(request.param)
    return request.param


def build(scope, channels, of='swin_mm', **options):
    statistics = dict(mean=MEANS[:channels], std=STDS[:channels])
    options = (dict(pad_size_divisor=32) if scope == 'mmdet' else dict(size=(64, 64))) | options
    return MODELS.build(dict(type=f'{of}.{NAMES[scope]}', **statistics, **options))


def batch(scope, channels, dtype=torch.uint8):
    samples, images = [], []
    for height, width in SIZES:
        images.append(torch.randint(256, (channels, height, width)).to(dtype))
        if scope == 'mmdet':
            from mmdet.structures import DetDataSample
            from mmdet.structures.mask import BitmapMasks

            masks = BitmapMasks(np.ones((2, height, width), np.uint8), height, width)
            sample = DetDataSample(gt_instances=InstanceData(masks=masks))
        else:
            from mmseg.structures import SegDataSample

            sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, height, width, dtype=torch.uint8)))
        sample.set_metainfo(dict(img_shape=(height, width)))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('channels', [1, 2, 4, 6])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.uint16, torch.float32])
def test_each_channel_has_its_own_mean_and_deviation(scope, channels, dtype):
    given = batch(scope, channels, dtype)
    images = [image.double().numpy() for image in given['inputs']]
    inputs = build(scope, channels)(given, training=True)['inputs']
    assert (inputs.shape, inputs.dtype) == ((2, channels, 64, 64), torch.float32)
    for image, (height, width), result in zip(images, SIZES, inputs.numpy(), strict=True):
        wanted = (image - np.reshape(MEANS[:channels], (-1, 1, 1))) / np.reshape(STDS[:channels], (-1, 1, 1))
        np.testing.assert_allclose(result[:, :height, :width], wanted, rtol=1e-5, atol=1e-5)
        assert not result[:, height:].any()
        assert not result[:, :, width:].any()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_three_channels_are_as_in_the_stock_class(scope, training, bgr_to_rgb):
    options = dict(bgr_to_rgb=bgr_to_rgb) | (dict(pad_mask=True) if scope == 'mmdet' else {})
    if scope == 'mmseg':
        options['test_cfg'] = dict(size=(64, 64))
    results = []
    for of in ('swin_mm', scope):
        torch.manual_seed(0)
        given = batch(scope, 3)
        if scope == 'mmseg' and not training:  # mmseg tests images of one size
            given = {key: value[:1] for key, value in given.items()}
        results.append(build(scope, 3, of, **options)(given, training))
    ours, stock = results
    assert torch.equal(ours['inputs'], stock['inputs'])
    for mine, theirs in zip(ours['data_samples'], stock['data_samples'], strict=True):
        assert mine.metainfo == theirs.metainfo
        if scope == 'mmdet':
            assert mine.gt_instances.masks.masks.shape == theirs.gt_instances.masks.masks.shape
        else:
            assert torch.equal(mine.gt_sem_seg.data, theirs.gt_sem_seg.data)


def test_batch_augments_of_mmdet_take_four_channels():
    pytest.importorskip('mmdet')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    plain = build('mmdet', 4, pad_mask=True)(batch('mmdet', 4), training=True)['inputs']
    torch.manual_seed(0)
    augments = [dict(type='BatchFixedSizePad', size=(96, 128), pad_mask=True)]
    padded = build('mmdet', 4, pad_mask=True, batch_augments=augments)(batch('mmdet', 4), training=True)
    assert padded['inputs'].shape == (2, 4, 96, 128)
    assert torch.equal(padded['inputs'][..., :64, :64], plain)
    assert padded['data_samples'][0].gt_instances.masks.masks.shape == (2, 96, 128)


def test_a_batch_that_is_stacked_already_is_taken_too():
    init_default_scope('mmdet')
    images = torch.rand(2, 4, 32, 32)
    inputs = build('mmdet', 4)(dict(inputs=images, data_samples=None))['inputs']
    torch.testing.assert_close(inputs[:, 3], (images[:, 3] - MEANS[3]) / STDS[3])


def test_other_channels_than_means_are_refused(scope):
    for channels, means in ((1, 4), (4, 1), (3, 4), (6, 4)):
        words = rf'a channel for each of {means} means, got shape \({channels}, 40, 50\): set data_preprocessor\.mean'
        with pytest.raises(ValueError, match=words):
            build(scope, means)(batch(scope, channels), training=True)


@pytest.mark.parametrize('swap', ['bgr_to_rgb', 'rgb_to_bgr'])
def test_red_and_blue_change_places_among_three_channels_only(scope, swap):
    for channels in (1, 4):
        with pytest.raises(ValueError, match=rf'{swap} .*must be False without 3 channels, got {channels} means'):
            build(scope, channels, **{swap: True})


@pytest.mark.parametrize('statistics', [([1, 2], [1]), ([], []), ([1, 2], [1, 0]), ([1], [-1])])
def test_statistics_must_make_sense(scope, statistics):
    mean, std = statistics
    with pytest.raises(ValueError, match=r'a value for each channel, std above 0, got mean=.* std='):
        MODELS.build(dict(type=f'swin_mm.{NAMES[scope]}', mean=mean, std=std))


def test_the_statistics_stay_out_of_checkpoints(scope):
    assert build(scope, 4).state_dict() == {}
