"""swin_mm.LoadLabels: mmseg's labels for a right file, a refusal that names the file for any other."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope
from PIL import Image

CONFIGS = Path(__file__).parents[2] / 'configs'
HEIGHT, WIDTH = 5, 7


@pytest.fixture
def load(tmp_path):
    """``gt_seg_map`` of a file (or of what Pillow saves), read by `LoadLabels` or, ``stock``, by mmseg."""

    def load(content, num_classes=150, stock=False, name='label.png', **results):
        path = tmp_path / name
        if isinstance(content, np.ndarray):
            content = Image.fromarray(content)
        if isinstance(content, Image.Image):
            content.save(path)
        elif content is not None:
            path.write_bytes(content)
        kind = dict(type='LoadAnnotations') if stock else dict(type='swin_mm.LoadLabels', num_classes=num_classes)
        with DefaultScope.overwrite_default_scope('mmseg'):
            step = TRANSFORMS.build(kind)
        start = dict(img_path='picture.jpg', seg_map_path=str(path), ori_shape=(HEIGHT, WIDTH), seg_fields=[])
        return step({**start, 'reduce_zero_label': False, 'label_map': None, **results})['gt_seg_map']

    return load


def pixels(*values, dtype=np.uint8):
    """A map of 1 with ``values`` in it."""
    array = np.ones((HEIGHT, WIDTH), dtype)
    array.flat[3 : 3 + len(values)] = values
    return array


def palette(transparency=False):
    image = Image.fromarray(pixels(2)).convert('P')
    image.putpalette([i for colour in range(256) for i in (colour, 0, 0)])
    image.putdata(pixels(2).ravel())
    if transparency:
        image.info['transparency'] = 0
    return image


def grey_png(bits):
    """A PNG of zeros, packed to ``bits`` a pixel; Pillow does not write such files."""
    rows = b''.join(b'\0' + b'\0' * -(-WIDTH * bits // 8) for _ in range(HEIGHT))
    header = struct.pack('>2I5B', WIDTH, HEIGHT, bits, 0, 0, 0, 0)
    chunks = (b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.parametrize('reduce', [False, True])
@pytest.mark.parametrize('label_map', [None, {1: 0, 0: 255}])
@pytest.mark.parametrize('content', [pixels(0, 2, 149, 255), palette(), pixels(0).astype(bool)], ids=['L', 'P', '1'])
def test_right_files_are_read_as_mmseg_reads_them(load, content, label_map, reduce):
    settings = dict(reduce_zero_label=reduce, label_map=label_map)
    labels = load(content, **settings)
    np.testing.assert_array_equal(labels, load(content, stock=True, **settings))
    assert (labels.dtype, labels.shape) == (np.uint8, (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ('content', 'name', 'found'),
    [
        (pixels(2, dtype=np.uint16), 'a.png', '16 bits'),
        (Image.fromarray(pixels(2)).convert('RGB'), 'a.png', r'colours \(mode RGB\)'),
        (palette().convert('RGBA'), 'a.png', r'colours \(mode RGBA\)'),
        (Image.fromarray(pixels(2)).convert('LA'), 'a.png', r'transparency \(mode LA\)'),
        (Image.fromarray(pixels(2).astype(np.float32)), 'a.tiff', 'fractions'),
        (palette(transparency=True), 'a.png', r'transparency \(mode P\)'),
        (Image.fromarray(pixels(2)), 'a.jpg', 'JPEG'),
        (grey_png(2), 'a.png', '2 bits of grey'),
        (grey_png(4), 'a.png', '4 bits of grey'),
    ],
)
def test_a_file_that_is_no_class_map_is_refused(load, content, name, found):
    with pytest.raises(ValueError, match=rf'one class index a pixel.*got {found}.* in .*{name}'):
        load(content, name=name)


def test_sixteen_bits_are_why():
    """mmseg makes class 0 of 256: no error, a wrong map."""
    assert int(np.asarray(256).astype(np.uint8)) == 0


@pytest.mark.parametrize('reduce', [False, True])
def test_every_value_passes_or_is_named(load, reduce):
    """Brute force over the bytes: 0..149 and 255, one more with reduce_zero_label, where 0 is ignored as well."""
    right = {*range(151 if reduce else 150), 255}
    for value in range(256):
        if value in right:
            load(pixels(value), reduce_zero_label=reduce)
        else:
            with pytest.raises(ValueError, match=rf'num_classes=150 and {value - reduce} in .*label\.png') as caught:
                load(pixels(value), reduce_zero_label=reduce)
            assert ('reduce_zero_label' in str(caught.value)) == reduce


def test_values_are_judged_as_the_data_set_maps_them(load):
    mapped = dict(label_map={0: 1, 1: 0, 2: 255})
    assert set(load(pixels(0, 2), num_classes=2, **mapped).flat) == {0, 1, 255}
    with pytest.raises(ValueError, match='num_classes=2 and 3, 200 in'):
        load(pixels(3, 200), num_classes=2, **mapped)


def test_many_wrong_values_are_not_all_named(load):
    with pytest.raises(ValueError, match=r'and 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, \.\.\. in'):
        load(pixels(*range(2, 14)), num_classes=2)


def test_the_size_is_that_of_the_picture_before_it_is_resized(load):
    load(pixels(2), img_shape=(50, 70))
    with pytest.raises(ValueError, match=r'got 5 x 7 \(height x width\) in .*label\.png and 7 x 5 in picture\.jpg'):
        load(pixels(2), ori_shape=(WIDTH, HEIGHT))
    load(pixels(2)[:, :3], ori_shape=(HEIGHT, 3, 3))


def test_missing_and_damaged_files_are_named(load, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'label file .*label\.png of picture\.jpg is not there'):
        load(None)
    Image.effect_noise((WIDTH, HEIGHT), 9).save(tmp_path / 'whole.png')
    for content in (b'no picture', (tmp_path / 'whole.png').read_bytes()[:-30]):
        with pytest.raises(ValueError, match=r'label file .*label\.png cannot be read as a picture'):
            load(content)


def test_the_number_of_classes_must_be_given(load):
    with pytest.raises(TypeError, match='num_classes'):
        TRANSFORMS.build(dict(type='swin_mm.LoadLabels'))
    for number in (0, 256):
        with pytest.raises(ValueError, match=rf'num_classes must be in \[1, 255\], got num_classes={number}'):
            TRANSFORMS.build(dict(type='swin_mm.LoadLabels', num_classes=number))


@pytest.mark.parametrize('name', ['train_pipeline', 'test_pipeline', 'tta_pipeline'])
def test_the_recipe_checks_labels_before_and_after_its_resize(tmp_path, name):
    cfg = Config.fromfile(CONFIGS / 'upernet_swin_t.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        pipeline = Compose(cfg[name])
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(tmp_path / 'a.jpg')

    def go(labels):
        Image.fromarray(labels).save(tmp_path / 'a.png')
        return pipeline(
            dict(img_path=str(tmp_path / 'a.jpg'), seg_map_path=str(tmp_path / 'a.png'), seg_fields=[],
                 reduce_zero_label=True, label_map=None)
        )  # fmt: skip

    samples = go(np.full((60, 90), 150, np.uint8))['data_samples']
    for sample in samples if isinstance(samples, list) else [samples]:
        labels = sample.gt_sem_seg.data
        assert labels.unique().tolist() == [149]
        assert tuple(labels.shape) == (1, 60, 90) or name == 'train_pipeline'
    for wrong, words in (
        (np.full((60, 90), 151, np.uint8), 'num_classes=150'),
        (np.ones((30, 45), np.uint8), 'size|large'),
    ):
        with pytest.raises(ValueError, match=words):
            go(wrong)


@pytest.mark.parametrize('results', [{}, {'seg_map_path': None}], ids=['no key', 'None'])
def test_a_picture_alone_passes(results):
    """As mmseg's and our own inference run the test pipeline."""
    step = TRANSFORMS.build(dict(type='swin_mm.LoadLabels', num_classes=3))
    assert step(dict(results)) == results
