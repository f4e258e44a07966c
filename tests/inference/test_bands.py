"""Detectors and segmentors of other than three channels: files, arrays, drawings and commands."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from samples.pico_segmentor import CONFIG as SEGMENTOR
from samples.pico_segmentor import ROOT, save_checkpoint

from swin_mm.commands import predict, test
from swin_mm.datasets.shapes.write import write_shapes
from swin_mm.inference import Detector, EncodedImage, NamedImage, Segmentor

SMALL = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))


@pytest.fixture(scope='module')
def heat(tmp_path_factory):
    """A folder with the small detector of four bands, `heat.py` and `heat.pth`, and its data: `val/*.npy`."""
    folder = tmp_path_factory.mktemp('heat')
    write_shapes(folder / 'data', train=1, val=3, heat=True)
    settings = dict(
        backbone=SMALL,
        neck=dict(in_channels=[8, 16, 32, 64]),
        test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)),
    )
    (folder / 'heat.py').write_text(
        f"_base_ = '{ROOT / 'configs/mask_rcnn_swin_pico_heat.py'}'\nmodel = {settings}\n"
        "val_evaluator = test_evaluator = dict(ann_file='data/annotations/instances_val.json')\n"
        "val_dataloader = test_dataloader = dict(dataset=dict(data_root='data'))\n"
    )
    cfg = Config.fromfile(folder / 'heat.py')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    meta = dict(dataset_meta=dict(classes=('cold', 'hot'), palette=[(0, 0, 255), (255, 0, 0)]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'heat.pth')
    return folder


@pytest.fixture(scope='module')
def detector(heat):
    return Detector(heat / 'heat.py', heat / 'heat.pth', device='cpu')


@pytest.fixture
def here(heat, tmp_path, monkeypatch):
    """The working directory, with links to what `heat` holds."""
    for name in ('heat.py', 'heat.pth', 'data'):
        (tmp_path / name).symlink_to(heat / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['swin-mm'])
    return tmp_path


def paths(heat):
    return sorted(heat.glob('data/val/*.npy'))


def assert_equal(one, other):
    for field in ('boxes', 'scores', 'labels', 'masks'):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_equals_mmdets_own_inference(heat, detector):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(str(heat / 'heat.py'), str(heat / 'heat.pth'), device='cpu')
    for path, found in zip(paths(heat), detector(paths(heat)), strict=True):
        expected = inference_detector(model, str(path)).pred_instances
        assert len(found.scores) == 5
        np.testing.assert_array_equal(found.boxes, expected.bboxes)
        np.testing.assert_array_equal(found.masks, expected.masks)


def test_every_band_counts_in_files_and_arrays(heat, detector):
    path = paths(heat)[0]
    (found,) = detector(path)
    bands = np.load(path)
    assert detector.read(path).shape == bands.shape
    assert_equal(detector(bands)[0], found)
    assert_equal(detector(NamedImage('frame 3', bands))[0], found)
    assert_equal(detector(EncodedImage('object 3', path.read_bytes()))[0], found)
    assert_equal(detector(np.dstack([bands, bands[..., 0]]))[0], found)  # a fifth band is not asked for
    for band in range(4):
        changed = bands.copy()
        changed[..., band] = 4095 - changed[..., band]
        assert not np.array_equal(detector(changed)[0].boxes, found.boxes)


def test_a_tiff_gives_what_the_array_gives(heat, detector, tmp_path):
    tifffile = pytest.importorskip('tifffile', reason='tifffile is not installed')
    bands = np.load(paths(heat)[1])
    tifffile.imwrite(tmp_path / 'image.tif', bands.transpose(2, 0, 1), photometric='minisblack', compression='zlib')
    assert_equal(*detector([tmp_path / 'image.tif', bands]))


def test_what_is_no_image_of_these_bands_is_refused_by_name(heat, detector, tmp_path):
    Image.new('RGB', (40, 40)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png: must be a TIFF or \.npy file'):
        detector(tmp_path / 'a.png')
    with pytest.raises(FileNotFoundError, match=r'gone\.npy: no such file'):
        detector('gone.npy')
    with pytest.raises(ValueError, match=r'images\[1\] must have all of bands=\(0, 1, 2, 3\), got 3 bands'):
        detector([np.zeros((40, 40, 4), np.uint16), np.zeros((40, 40, 3), np.uint16)])
    limited = Detector(heat / 'heat.py', heat / 'heat.pth', device='cpu', max_pixels=100)
    with pytest.raises(ValueError, match=r'000001\.npy: must have at most 100 pixels'):
        limited(paths(heat)[0])


def test_bands_that_the_model_does_not_take_are_told_apart_from_a_fault(heat):
    cfg = Config.fromfile(heat / 'heat.py')
    cfg.test_dataloader.dataset.pipeline[0].bands = (0, 1, 2)
    words = r'000001\.npy: the model fails .*a channel for each of 4 means, got shape \(3, '
    with pytest.raises(RuntimeError, match=words):
        Detector(cfg, heat / 'heat.pth', device='cpu')(paths(heat)[0])


def test_the_demo_takes_a_folder_and_draws_the_first_three_bands(here, heat):
    (here / 'in').mkdir()
    for path in paths(heat):
        shutil.copy(path, here / 'in')
    (here / 'in/notes.jpg').write_text('of another kind: not looked for')
    assert predict.main(['in', 'heat.py', 'heat.pth', '--device', 'cpu', '--pred-score-thr', '2']) == 0
    for path in paths(heat):
        bands = np.load(path)
        drawn = np.asarray(Image.open(f'outputs/vis/{path.stem}.jpg'), float)  # no score is above 2: only the image
        assert drawn.shape == (*bands.shape[:2], 3)
        for channel in range(3):
            assert np.corrcoef(drawn[..., channel].ravel(), bands[..., channel].ravel())[0, 1] > 0.9
        assert drawn.min() < 10
        assert drawn.max() > 245
        assert len(json.loads(Path(f'outputs/preds/{path.stem}.json').read_text())['bboxes']) == 5


@pytest.mark.parametrize('views', [[], ['--tta']], ids=['one view', 'views'])
def test_a_test_measures_and_draws_them(here, views):
    metrics = test.main(['heat.py', 'heat.pth', *views, '--show-dir', 'drawn', '--work-dir', 'work'])
    assert 'coco/bbox_mAP_50' in metrics
    drawn = sorted(here.glob('work/*/drawn/*'))
    assert [path.name for path in drawn] == [f'00000{i}.png' for i in (1, 2, 3)]


@pytest.mark.parametrize('kind', ['grey pictures', 'one band', 'six bands'])
def test_segmentors_of_other_channels(kind, tmp_path):
    channels = 6 if kind == 'six bands' else 1
    cfg = Config.fromfile(SEGMENTOR)
    cfg.model.backbone.update(SMALL, in_channels=channels)
    cfg.model.decode_head.in_channels = [8, 16, 32, 64]
    cfg.model.auxiliary_head.in_channels = 32
    statistics = dict(mean=[100.0] * channels, std=[50.0] * channels, bgr_to_rgb=False)
    cfg.model.data_preprocessor.update(statistics, type='swin_mm.SegDataPreProcessor')
    pixels = np.random.default_rng(0).integers(256, size=(50, 70, channels), dtype=np.uint8)
    if kind == 'grey pictures':
        first = dict(type='LoadImageFromFile', color_type='grayscale')
        Image.fromarray(pixels[..., 0]).save(tmp_path / 'image.png')
    else:
        first = dict(type='swin_mm.LoadBands', bands=tuple(range(channels)))
        np.save(tmp_path / 'image.npy', pixels)
    cfg.test_dataloader.dataset.pipeline[0] = first
    segmentor = Segmentor(cfg, save_checkpoint(tmp_path / 'a.pth', cfg), device='cpu')
    (path,) = tmp_path.glob('image.*')
    found, same = segmentor([path, pixels])
    assert found.labels.shape == (50, 70)
    assert len(np.unique(found.labels)) > 1
    np.testing.assert_array_equal(found.labels, same.labels)
    normalised = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().sub(100).div(50)
    meta = [dict(img_shape=(50, 70), ori_shape=(50, 70), pad_shape=(50, 70), padding_size=[0] * 4)]
    with torch.no_grad():
        logits = segmentor.model.encode_decode(normalised, meta)
    np.testing.assert_array_equal(found.labels, logits[0].argmax(0).numpy())
    drawn = segmentor.reader.to_rgb(segmentor.read(path))
    assert (drawn.shape, drawn.dtype) == ((50, 70, 3), np.uint8)
    assert (channels == 6) == (drawn != drawn[..., :1]).any()


def test_a_grey_array_must_be_8_bits_of_one_channel():
    from swin_mm.inference.images import PictureReader

    reader = PictureReader('grayscale')
    assert reader.check(np.zeros((8, 9, 1), np.uint8), 'thing').shape == (8, 9)
    for wrong in (np.zeros((8, 9), np.uint16), np.zeros((8, 9, 3), np.uint8), np.zeros((0, 9), np.uint8)):
        with pytest.raises(ValueError, match=r'thing must be a uint8 array \(height, width\), got uint'):
            reader.check(wrong, 'thing')
