"""Bands of TIFF and NumPy files come out as they were put in, or are refused by name; transforms take any number."""

import io
import os
import re
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, init_default_scope

from swin_mm.datasets.load_bands import LoadBands
from swin_mm.errors import RunError

RNG = np.random.default_rng(0)
SIXTEEN = RNG.integers(5000, size=(40, 50, 5), dtype=np.uint16)


def load(path, bands, **options):
    return LoadBands(bands, **options).transform(dict(img_path=str(path)))['img']


def saved(folder, array, **options):
    """``array`` as a TIFF where options of tifffile are given, else as NumPy's."""
    if options:
        tifffile = pytest.importorskip('tifffile', reason='tifffile is not installed')
        path = folder / 'image.tif'
        tifffile.imwrite(path, array, photometric='minisblack', **options)
    else:
        path = folder / 'image.npy'
        np.save(path, array)
    return path


LAYOUTS = {
    'npy': lambda a: (a, {}),
    'npy in columns': lambda a: (np.asfortranarray(a), {}),
    'npy of the other byte order': lambda a: (a.astype(a.dtype.newbyteorder()), {}),
    'tiff by pixel': lambda a: (a, dict(planarconfig='contig')),
    'tiff by band': lambda a: (a.transpose(2, 0, 1), dict(planarconfig='separate')),
    'tiff by page': lambda a: (a.transpose(2, 0, 1), dict(metadata=None)),
    'deflated tiff': lambda a: (a, dict(planarconfig='contig', compression='zlib', predictor=False)),
    'tiles': lambda a: (a, dict(planarconfig='contig', tile=(16, 16))),
    'BigTIFF': lambda a: (a, dict(planarconfig='contig', bigtiff=True)),
    'big-endian': lambda a: (a, dict(planarconfig='contig', byteorder='>')),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_the_bands_come_out_in_the_order_that_was_asked_for(tmp_path, layout):
    array, options = LAYOUTS[layout](SIXTEEN)
    image = load(saved(tmp_path, array, **options), (3, 0, 4), value_range=(0, 5000))
    assert (image.shape, image.dtype) == ((40, 50, 3), np.float32)
    assert image.flags.c_contiguous  # or every transform copies
    np.testing.assert_allclose(image, SIXTEEN[..., [3, 0, 4]] / 5000 * 255, rtol=1e-5)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'uint32', 'int64', 'float16', 'float32', 'float64'])
def test_values_of_any_type_become_0_to_255(tmp_path, dtype):
    values = np.array([[-50, 0, 30, 100, 130]] * 32)
    image = load(saved(tmp_path, values.clip(0 if dtype[0] == 'u' else None).astype(dtype)), (0,), value_range=(0, 100))
    assert image.shape == (32, 5, 1)
    np.testing.assert_allclose(image[0, :, 0], [0, 0, 76.5, 255, 255], rtol=1e-6)  # what lies beyond is clipped


def test_a_range_may_begin_anywhere(tmp_path):
    image = load(saved(tmp_path, np.full((32, 8), -5.0)), (0,), value_range=(-10, 10))
    np.testing.assert_allclose(image, 63.75)


def test_uint8_without_a_range_stays_as_it_is(tmp_path):
    array = RNG.integers(256, size=(33, 8, 4), dtype=np.uint8)
    image = load(saved(tmp_path, array), (0, 1, 2, 3))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, array)


def test_a_real_file_of_five_bands(shared):
    """Against its strips, unpacked by hand: rows of samples by pixel, deflated; tags 273 and 279 say where they lie."""
    pytest.importorskip('tifffile', reason='tifffile is not installed')
    path = shared / 'data/odd_images/uint16-5channel.tif'
    data = path.read_bytes()
    tags = {tag: (number, at) for tag, _, number, at in struct.iter_unpack('<HHII', data[10 : 10 + 18 * 12])}
    begins, sizes = (struct.unpack_from(f'<{tags[tag][0]}I', data, tags[tag][1]) for tag in (273, 279))
    strips = [zlib.decompress(data[at : at + size]) for at, size in zip(begins, sizes, strict=True)]
    expected = np.frombuffer(b''.join(strips), '<u2').reshape(200, 150, 5)
    image = load(path, (4, 0, 2), value_range=(0, 65535))
    np.testing.assert_allclose(image, expected[..., [4, 0, 2]] / 257, atol=1e-4)


class Command:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ('ran',)


def npy(array, cut=0, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()[: -cut or None]


WIDE = np.zeros((32, 40, 4), np.uint8)
BAD_FILES = {
    'a page': (b'<html>404</html>', r"must be a TIFF or \.npy file, got one that begins with b'<html>'"),
    'empty': (b'', "got one that begins with b''"),
    'objects': (npy(np.array([Command()] * 1024).reshape(32, 32), allow_pickle=True), 'must hold numbers, got object'),
    'cut short': (npy(WIDE, cut=7), 'the file is cut short: 5120 bytes must follow the header, got 5113'),
    'huge': (npy(WIDE).replace(b'(32, 40, 4)', b'(32000, 4000000, 4)'), 'cut short: 512000000000 bytes'),
    'lacks a band': (npy(WIDE[..., :3]), r'must have all of bands=\(0, 3\), got 3 bands, counted from 0'),
    'one band': (npy(WIDE[..., 0]), 'must have all of bands=.*, got 1 bands'),
    'four axes': (npy(WIDE[None]), r'must be numbers \(height, width, bands\), got uint8 of shape \(1, 32, 40, 4\)'),
    'complex': (npy(WIDE.astype(complex)), 'must hold numbers, got complex128'),
    'bands first': (npy(WIDE.transpose(2, 0, 1)), r'bands last, got shape \(4, 32, 40\): image\.transpose\(1, 2, 0\)'),
    '16 bits': (npy(WIDE.astype(np.uint16)), r'needs value_range=\(low, high\) for uint16, .*values are in \[0, 0\]'),
    'damaged TIFF': (b'II*\0' + bytes(40), 'it is damaged'),
}


@pytest.mark.parametrize('fault', BAD_FILES)
def test_a_bad_file_is_refused_by_name_rule_and_value(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    data, words = BAD_FILES[fault]
    if 'TIFF' in fault:
        pytest.importorskip('tifffile', reason='tifffile is not installed')
    path = tmp_path / 'image'
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f'{re.escape(str(path))}.*{words}') as caught:
        load(path, (0, 3))
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'ran').exists()


def test_pages_must_be_alike_and_as_many_as_wanted(tmp_path):
    tifffile = pytest.importorskip('tifffile', reason='tifffile is not installed')
    with tifffile.TiffWriter(tmp_path / 'image.tif') as file:
        for side in (40, 40, 20):
            file.write(np.zeros((side, side), np.uint8), metadata=None)
    assert load(tmp_path / 'image.tif', (0, 1)).shape == (40, 40, 2)
    with pytest.raises(ValueError, match=r'pages must be images like the first, got \(20, 20\) of uint8 as 2'):
        load(tmp_path / 'image.tif', (0, 2))
    saved(tmp_path, SIXTEEN[..., :2].transpose(2, 0, 1), metadata=None)
    with pytest.raises(ValueError, match=r'all of bands=\(2,\), got 2 bands'):
        load(tmp_path / 'image.tif', (2,), value_range=(0, 1))


@pytest.mark.parametrize('options', [{}, dict(planarconfig='contig')], ids=['npy', 'tiff'])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, options):
    path = saved(tmp_path, SIXTEEN, **options)
    with open(path, 'rb') as file:
        assert LoadBands((0,), (0, 1)).read(file, path, 2000).shape == (40, 50, 1)
        file.seek(0)
        with pytest.raises(ValueError, match=f'{path}: must have at most 1999 pixels, got 50x40, which is 2000'):
            LoadBands((0,), (0, 1)).read(file, path, 1999)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    array = np.zeros((32, 8, 2))
    array[3, 4, 1] = value
    with pytest.raises(ValueError, match='must have finite values, got 1 that are NaN or infinite: fill them first'):
        load(saved(tmp_path, array), (0, 1), value_range=(0, 1))


def test_a_missing_tifffile_is_said_and_leaves_no_image_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    (tmp_path / 'image.tif').write_bytes(b'II*\0' + bytes(40))
    first = TRANSFORMS.build(dict(type='swin_mm.LoadImage', loader=dict(type='swin_mm.LoadBands', bands=(0,))))
    with pytest.raises(ImportError, match=r'image\.tif: tifffile must be installed to read TIFF: pip install tifffile'):
        first(dict(img_path=str(tmp_path / 'image.tif')))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(bands=()), 'bands must be indices from 0 on'),
        (dict(bands=(0, -1)), r'bands must be indices from 0 on, got bands=\(0, -1\)'),
        (dict(bands=(0,), value_range=(5, 5)), r'low < high, got value_range=\(5, 5\)'),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words):
        LoadBands(**arguments)


def test_files_behind_a_storage_backend_are_not_looked_for_on_the_disk(tmp_path):
    """`CheckedImages` asks the steps for their backend."""
    loader = dict(type='swin_mm.LoadBands', bands=(0,), backend_args=dict(backend='local'))
    step = TRANSFORMS.build(dict(type='swin_mm.LoadImage', loader=loader))
    assert step.backend_args == dict(backend='local')
    (tmp_path / 'image').write_bytes(npy(WIDE))
    assert step(dict(img_path=str(tmp_path / 'image')))['img'].shape == (32, 40, 1)


def test_broken_files_are_left_out_of_a_training_as_others_are(tmp_path):
    loader = dict(type='swin_mm.LoadBands', bands=(0, 3))
    step = TRANSFORMS.build(dict(type='swin_mm.LoadImage', loader=loader, max_broken=0.5, min_broken=1))
    (tmp_path / 'good').write_bytes(npy(WIDE))
    (tmp_path / 'bad').write_bytes(npy(WIDE, cut=9))
    assert step(dict(img_path=str(tmp_path / 'good')))['img'].shape == (32, 40, 2)
    assert step(dict(img_path=str(tmp_path / 'bad'))) is None
    with pytest.raises(RunError, match=r'/bad\. That is 2 of 3 reads'):
        step(dict(img_path=str(tmp_path / 'bad')))
    assert 'loader=LoadBands(bands=(0, 3), value_range=None), max_broken=0.5' in repr(step)
    with pytest.raises(ValueError, match=r"left out beside a loader, got \{'color_type': 'grayscale'\}"):
        TRANSFORMS.build(dict(type='swin_mm.LoadImage', loader=loader, color_type='grayscale'))


# Drawing


def test_the_first_three_bands_are_drawn_as_red_green_and_blue_stretched():
    bands = LoadBands((0, 1, 2, 3))
    ramp = np.linspace(90, 110, 100 * 100).reshape(100, 100)
    drawn = bands.to_rgb(np.stack([ramp, ramp.T, ramp * 2, ramp], axis=2))
    assert (drawn.shape, drawn.dtype) == ((100, 100, 3), np.uint8)
    share = (ramp - 90) / 20
    wanted = ((share - 0.02) / 0.96 * 255).clip(0, 255)
    for channel, expected in enumerate([wanted, wanted.T, wanted]):
        assert np.abs(drawn[..., channel] - expected).max() <= 1


@pytest.mark.parametrize('channels', [1, 2])
def test_less_than_three_bands_are_drawn_in_grey(channels):
    image = RNG.integers(256, size=(40, 30, channels), dtype=np.uint8)
    drawn = LoadBands(range(channels)).to_rgb(image)
    assert (drawn == drawn[..., :1]).all()
    assert np.corrcoef(drawn[..., 0].ravel(), image[..., 0].ravel())[0, 1] > 0.99
    assert not LoadBands((0,)).to_rgb(np.full((40, 30, 1), 7.0)).any()  # nothing to stretch


# Transforms of mmcv, mmdet and mmseg that take any number of channels


STEPS = {
    'RandomFlip': dict(type='RandomFlip', prob=1.0),
    'Resize': dict(type='Resize', scale=(45, 36), keep_ratio=True),
    'RandomResize': dict(type='RandomResize', scale=(45, 36), ratio_range=(1.0, 1.0), keep_ratio=True),
    'RandomCrop': dict(type='RandomCrop', crop_size=(36, 45)),
    'Pad': dict(type='Pad', size=(64, 64)),
}


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize(
    ('step', 'channels'), [(step, n) for step in STEPS for n in (1, 4, 6) if (step, n) != ('Pad', 6)]
)
def test_transforms_of_place_treat_each_band_as_they_treat_it_alone(scope, dtype, step, channels):
    pytest.importorskip(scope)
    init_default_scope(scope)
    image = RNG.integers(256, size=(40, 50, channels)).astype(dtype)
    pack = dict(type='PackDetInputs' if scope == 'mmdet' else 'PackSegInputs', meta_keys=())
    pipeline = Compose([dict(type='LoadImageFromNDArray'), STEPS[step], pack])

    def inputs(pixels):
        np.random.seed(0)
        return pipeline(dict(img=pixels, img_id=0, seg_fields=[]))['inputs'].numpy()

    together = inputs(image)
    assert len(together) == channels
    assert together.dtype == image.dtype
    for i, alone in enumerate(together):
        # OpenCV rounds differently from five channels on.
        np.testing.assert_allclose(alone, inputs(image[..., i])[0], atol=1e-3 if dtype == 'float32' else 1)


def test_pad_takes_up_to_four_channels():
    """As the README says: the data preprocessor pads instead."""
    with pytest.raises(cv2.error, match='longer than 4'):
        Compose([dict(type='mmengine.Pad', size=(64, 64))])(dict(img=np.zeros((40, 50, 5), np.uint8)))
