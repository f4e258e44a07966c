"""What a file or an array holds comes out as it is, upright, in 8 bits, or is refused in one sentence."""

import builtins
import io
import re
import resource

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image, ImageOps
from samples import odd_images
from samples.odd_images import HEIGHT, WIDTH, encoded, png_of
from samples.pico_segmentor import picture

from swin_mm.inference.images import MAX_PIXELS, PictureReader, check_array, check_max_pixels, decode_image, read_image

READER = dict(flag='color', backend='cv2')
PIXELS = picture(HEIGHT, WIDTH)
GOOD, BAD = odd_images.good(PIXELS), odd_images.bad(PIXELS)
LOSSY = ('.jpg', '.JPG', 'wrong_suffix.png')


@pytest.fixture
def file(tmp_path):
    def write(data, name='picture'):
        path = tmp_path / name.replace('/', '_')
        path.write_bytes(data)
        return path

    return write


def expected(data) -> np.ndarray:
    """What Pillow makes of a file, in RGB."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith('I'):  # Pillow 10.0 says 'I' of a PNG, later versions 'I;16'
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert('RGB'))


@pytest.mark.parametrize('name', GOOD)
def test_a_good_file_gives_its_picture_as_training_decodes_it(file, name):
    image = read_image(file(GOOD[name], name), READER)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, mmcv.imfrombytes(GOOD[name], **READER))
    other = expected(GOOD[name])
    assert image.shape == other.shape
    assert np.abs(image[..., ::-1].astype(int) - other).max() <= (2 if name.endswith(LOSSY) else 0)


@pytest.mark.parametrize('name', [name for name in GOOD if name.startswith(('exif', 'gray16', 'rgb16', 'cmyk'))])
def test_what_was_put_in_comes_out(file, name):
    """By the pixels that were saved, not by another decoder."""
    image = read_image(file(GOOD[name], name), READER)[..., ::-1].astype(int)
    source = PIXELS.astype(int)
    if name.startswith('gray16'):
        source = np.stack([source[..., 0]] * 3, axis=2)
    if name.startswith('exif'):  # the tag says how the stored picture is to be turned
        turns = [0, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1], lambda a: a.transpose(1, 0, 2)]
        turns += [lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).transpose(1, 0, 2), lambda a: np.rot90(a)]
        i = int(name[4])
        source = source if i == 1 else turns[i - 1](source)
    assert image.shape == source.shape
    assert np.abs(image - source).mean() < 4


@pytest.mark.parametrize('name', BAD)
def test_a_bad_file_is_refused_by_name_and_reason(file, name):
    data, words = BAD[name]
    path = file(data, name)
    with pytest.raises(ValueError, match=f'{re.escape(str(path))}: .*{words}') as caught:
        read_image(path, READER)
    assert len(str(caught.value).splitlines()) == 1


def test_an_open_file_is_read_and_named_as_it_is_called(file):
    for data in GOOD.values():
        assert np.array_equal(decode_image(io.BytesIO(data), 'upload', READER), read_image(file(data), READER))
    for data, words in BAD.values():
        with pytest.raises(ValueError, match='^upload: .*' + words):
            decode_image(io.BytesIO(data), 'upload', READER)


@pytest.mark.parametrize('name', [*GOOD, *BAD])
def test_bytes_are_read_and_refused_as_files_are(file, name):
    data = GOOD[name] if name in GOOD else BAD[name][0]
    path = file(data, name)
    reader = PictureReader()
    if name in GOOD:
        np.testing.assert_array_equal(reader.decode(io.BytesIO(data), str(path)), reader.read(path))
        return
    with pytest.raises(ValueError, match=re.escape(str(path))) as of_file:
        reader.read(path)
    with pytest.raises(ValueError, match='^' + re.escape(str(of_file.value)) + '$'):
        reader.decode(io.BytesIO(data), str(path))


def test_a_jpeg_cut_at_any_byte_is_refused(file):
    data = GOOD['plain.jpg']
    for size in range(0, len(data), 23):
        with pytest.raises(ValueError, match=r'cut short|not an image|empty'):
            read_image(file(data[:size]), READER)


def test_a_jpeg_with_a_thumbnail_is_cut_short_by_its_own_end(file):
    """The thumbnail, which stands first, has an end of its own."""
    thumbnail = encoded(Image.fromarray(PIXELS), 'JPEG')
    assert thumbnail.endswith(b'\xff\xd9')
    note = b'\xff\xe5' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    data = GOOD['plain.jpg']
    data = data[:2] + note + data[2:]
    assert read_image(file(data), READER).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ValueError, match='the file is cut short: JPEG of 64x48 pixels, mode RGB without its end'):
        read_image(file(data[:-2]), READER)


def test_nothing_is_decoded_before_its_size_is_known(file, monkeypatch):
    monkeypatch.setattr(mmcv, 'imfrombytes', lambda *_, **__: pytest.fail('decoded'))
    for size in ((8001, 8000), (64_000_001, 1), (60000, 60000)):
        with pytest.raises(ValueError, match='pixels'):
            read_image(file(png_of(*size)), READER)


def test_the_cap_is_a_number_of_pixels(file):
    path = file(GOOD['plain.png'])
    assert read_image(path, READER, HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ValueError, match=r'at most 3071 pixels, got 64x48, which is 3072: .* raise max_pixels'):
        read_image(path, READER, HEIGHT * WIDTH - 1)
    assert check_max_pixels(MAX_PIXELS) == 64_000_000
    for wrong in (0, -1, 178_956_971):
        with pytest.raises(ValueError, match=rf'max_pixels must be in \[1, 178956970\], got {wrong}'):
            check_max_pixels(wrong)


def test_a_refused_bomb_takes_no_memory(file):
    path = file(png_of(60000, 60000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match='bomb'):
        read_image(path, READER)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; the picture has 10 GB


@pytest.mark.parametrize('error', [cv2.error('-215'), MemoryError('no more')])
def test_a_decoder_that_raises_is_named_with_the_file(file, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(mmcv, 'imfrombytes', fail)
    with pytest.raises(ValueError, match=rf'picture: .* \(PNG of 64x48 pixels, mode RGB\): {error}'):
        read_image(file(GOOD['plain.png']), READER)


def test_an_unreadable_file_is_named(file, monkeypatch):
    path = file(GOOD['plain.png'])

    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(builtins, 'open', refuse)  # the mode of a file does not stop root
    with pytest.raises(PermissionError, match=f'^{re.escape(str(path))}: Permission denied$'):
        read_image(path, READER)


@pytest.mark.parametrize('name', ['x' * 300, 'a\0b.png', 'gone.png'])
def test_names_that_no_file_has(tmp_path, name):
    with pytest.raises(OSError, match=r'no such file|name too long'):
        read_image(tmp_path / name, READER)


SMALL = np.zeros((8, 9, 3))


@pytest.mark.parametrize(
    ('array', 'words'),
    [
        (np.zeros((8, 8), np.uint8), r'np\.stack\(\[image\] \* 3, axis=2\)'),
        (np.zeros((8, 8, 4), np.uint8), r'leave the alpha out, image\[\.\.\., :3\]'),
        (np.zeros((3, 8, 9), np.uint8), r'image\.transpose\(1, 2, 0\)'),
        (np.zeros((2, 8, 9, 3), np.uint8), 'give several as a list'),
        (np.zeros((0, 0, 3), np.uint8), 'it has no pixels'),
        (np.zeros((0, 8, 3), np.float32), 'it has no pixels'),
        (np.uint8(5).reshape(()), 'convert it first'),
        (SMALL.astype(np.float32), r'np\.rint\(image \* 255\)\.astype\(np\.uint8\) if its values lie in \[0, 1\]'),
        (np.where(np.arange(3) == 1, np.nan, SMALL), '72 of its values are NaN or infinite'),
        (np.where(np.arange(3) == 1, np.inf, SMALL).astype(np.float16), '72 of its values are NaN or infinite'),
        (SMALL.astype(np.uint16), r'\(image >> 8\)\.astype\(np\.uint8\) if it uses all 16 bits'),
        (SMALL.astype(np.int64), r'image\.astype\(np\.uint8\) if its values lie in \[0, 255\]'),
        (SMALL.astype(bool), r'image\.astype\(np\.uint8\) \* 255'),
        (SMALL.astype(object), 'convert it first'),
        (SMALL.astype(complex), 'convert it first'),
    ],
    ids=lambda value: f'{value.dtype}{value.shape}' if hasattr(value, 'dtype') else '',
)
def test_an_array_that_is_no_picture_is_refused_with_what_to_do(array, words):
    text = (
        rf'thing must be a uint8 array \(height, width, 3\) in BGR, got {array.dtype} {re.escape(str(array.shape))}: .*'
    )
    with pytest.raises(ValueError, match=text + words):
        check_array(array, 'thing')


@pytest.mark.parametrize('view', [np.asarray, np.asfortranarray, lambda a: a[::-1, ::2, ::-1]])
def test_an_array_of_any_layout_is_taken_as_it_is(view):
    array = view(PIXELS)
    assert check_array(array, 'thing') is array
