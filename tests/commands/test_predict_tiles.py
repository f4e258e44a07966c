"""``swin-mm predict --tile``: huge images by region, equal to whole ones where one tile holds them, on Earth."""

import json
import shutil
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, picture, save_checkpoint

from swin_mm.commands import predict as predict_command
from swin_mm.commands import predict_tiles
from swin_mm.inference import Detector, Segmentor

rasterio = pytest.importorskip('rasterio', reason="pip install 'swin-mm[tiles]'")

CORNER, STEP = (500_000.0, 5_300_000.0), 0.5  # metres, in zone 33 north of UTM


@pytest.fixture
def demo(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['swin-mm predict'])
    return predict_command


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory):
    path = tmp_path_factory.mktemp('segmentor') / 'pico.pth'
    save_checkpoint(path, Config.fromfile(CONFIG), dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    return [str(CONFIG), str(path)]


def write_geotiff(path, image):
    """``image`` (height, width, bands) at a place on Earth."""
    height, width, count = image.shape
    place = dict(crs='EPSG:32633', transform=rasterio.transform.from_origin(*CORNER, STEP, STEP))
    size = dict(height=height, width=width, count=count, dtype=image.dtype)
    blocks = dict(tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, 'w', driver='GTiff', **blocks, **size, **place) as file:
        file.write(image.transpose(2, 0, 1))
    return path


def complaints(capsys) -> list[str]:
    return [line.removeprefix('swin-mm predict: ') for line in capsys.readouterr().err.splitlines()]


def test_one_tile_gives_what_the_whole_image_gives(demo, tiny, tmp_path, capsys):
    words = [str(tiny.config), str(tiny.checkpoint)]
    Image.open(tiny.data / 'images/0.jpg').save('a.png')
    (whole,) = Detector(*words, device='cpu')('a.png')
    assert demo.main(['a.png', *words, '--tile', '2000', '--pred-score-thr', '0']) == 0
    assert capsys.readouterr().out.split() == ['outputs/preds/a.json', 'outputs/vis/a.jpg']
    content = json.loads((tmp_path / 'outputs/preds/a.json').read_text())
    assert content['size'] == list(whole.masks.shape[1:])
    kept = whole.masks.any(axis=(1, 2))
    assert kept.any()
    np.testing.assert_allclose(content['scores'], whole.scores[kept])
    np.testing.assert_allclose(content['bboxes'], whole.boxes[kept])
    assert content['label_names'] == [name for name, keep in zip(whole.names, kept, strict=True) if keep]
    assert content['masks'] == [code for code, keep in zip(whole.run_lengths, kept, strict=True) if keep]


def test_a_geotiff_gives_geojson_where_it_lies(demo, tiny, tmp_path):
    from rasterio.warp import transform

    image = np.asarray(Image.open(tiny.data / 'images/0.jpg').convert('RGB').resize((300, 200)))
    write_geotiff('field.tif', image)
    words = [str(tiny.config), str(tiny.checkpoint), '--tile', '128', '--overlap', '0.3', '--pred-score-thr', '0.01']
    assert demo.main(['field.tif', *words]) == 0
    content = json.loads((tmp_path / 'outputs/preds/field.json').read_text())
    features = json.loads((tmp_path / 'outputs/preds/field.geojson').read_text())['features']
    assert len(features) == len(content['scores']) > 0
    for feature, box, score in zip(features, content['bboxes'], content['scores'], strict=True):
        assert feature['properties']['score'] == score
        ring = np.array(feature['geometry']['coordinates'][0])
        xs, ys = transform('EPSG:4326', 'EPSG:32633', *ring.T)
        columns, rows = (np.array(xs) - CORNER[0]) / STEP, (CORNER[1] - np.array(ys)) / STEP
        # Outlines of masks reach their boxes to a few pixels: a mask is 28 x 28 cells of a box.
        assert columns.min() > box[0] - 3
        assert rows.max() < box[3] + 3
    with Image.open(tmp_path / 'outputs/vis/field.jpg') as drawn:
        assert drawn.size == (300, 200)


@pytest.mark.parametrize('kind', ['png', 'tif'])
def test_labels_in_tiles_are_those_of_the_whole_where_tiles_are_one(demo, segmentor, tmp_path, kind, capsys):
    image = picture(96, 128, seed=1)[..., ::-1]
    Image.fromarray(image).save('a.png')
    name = 'a.png' if kind == 'png' else str(write_geotiff('b.tif', image))
    (whole,) = Segmentor(*segmentor, device='cpu')('a.png')
    assert demo.main([name, *segmentor, '--tile', '128']) == 0
    stem = name[0]
    assert capsys.readouterr().out.split()[:2] == [f'outputs/preds/{stem}.{kind}', f'outputs/preds/{stem}.json']
    written = tmp_path / f'outputs/preds/{stem}.{kind}'
    if kind == 'tif':
        with rasterio.open(written) as file:
            assert file.crs.to_epsg() == 32633
            labels = file.read(1)
            assert file.transform @ (0, 0) == CORNER
    else:
        labels = np.asarray(Image.open(written))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, whole.labels)
    shares = json.loads((tmp_path / f'outputs/preds/{stem}.json').read_text())['shares']
    assert shares == pytest.approx(whole.shares)


def test_no_seam_shows_in_labels(demo, segmentor, tmp_path):
    """Along the edges of tiles labels change no more often than elsewhere."""
    image = picture(400, 400, seed=2)[..., ::-1]
    Image.fromarray(image).save('a.png')
    assert demo.main(['a.png', *segmentor, '--tile', '160', '--overlap', '0.3']) == 0
    labels = np.asarray(Image.open(tmp_path / 'outputs/preds/a.png')).astype(int)
    assert labels.shape == (400, 400)
    changes = (np.diff(labels, axis=1) != 0).mean(axis=0)
    edges = [120 - 1, 160 - 1, 240 - 1, 280 - 1]
    assert max(changes[edges]) <= np.sort(changes)[-10]


@pytest.mark.parametrize('flag', ['--show', '--resume', '--print-result', '--save=csv', '--no-save-vis'])
def test_flags_of_small_images_are_refused(demo, tiny, capsys, flag, monkeypatch):
    monkeypatch.setattr(predict_command, 'check_display', lambda: None)
    shutil.copy(tiny.data / 'images/0.jpg', 'a.jpg')
    assert demo.main(['a.jpg', str(tiny.config), str(tiny.checkpoint), flag, '--tile', '64']) == 1
    (line,) = complaints(capsys)
    assert line == f'{flag.partition("=")[0]} is for images that are predicted whole: leave it or --tile out'


def test_what_cannot_be_read_by_region_has_a_reason_and_stops_nothing(demo, tiny, tmp_path, capsys):
    shutil.copy(tiny.data / 'images/0.jpg', 'good.jpg')
    (tmp_path / 'text.tif').write_text('no image')
    whole = write_geotiff('cut.tif', np.zeros((256, 256, 3), np.uint8)).__str__()
    (tmp_path / 'cut.tif').write_bytes((tmp_path / whole).read_bytes()[:40_000])
    write_geotiff('floats.tif', np.zeros((64, 64, 3), np.float32))
    words = [str(tiny.config), str(tiny.checkpoint), '--tile', '128']
    assert demo.main(['text.tif', 'cut.tif', 'floats.tif', 'good.jpg', *words]) == 1
    lines = complaints(capsys)
    assert lines[0] == '3 of 4 pictures have no result:'
    assert lines[1].startswith(
        "text.tif: must be TIFF, JPEG, PNG, BMP, WebP or JPEG 2000, got one that begins with b'no"
    )
    assert lines[2].startswith('cut.tif, pixels 0,')
    assert ': damaged: ' in lines[2]
    assert lines[3].startswith('floats.tif: must have 8 or 16 bits a sample for this model, got float32')
    assert (tmp_path / 'outputs/preds/good.json').exists()


def test_gdal_follows_no_address_in_a_file(demo, tiny, tmp_path, capsys):
    """GDAL's own driver for XML opens what the file names."""
    (tmp_path / 'a.tif').write_text('<VRTDataset rasterXSize="8" rasterYSize="8"></VRTDataset>')
    assert demo.main(['a.tif', str(tiny.config), str(tiny.checkpoint), '--tile', '64']) == 1
    assert "got one that begins with b'<VRTData'" in complaints(capsys)[1]


@pytest.mark.parametrize('workers', ['0', '2'])
def test_a_map_that_is_not_finished_is_not_there(demo, segmentor, tmp_path, monkeypatch, capsys, workers):
    write_geotiff('field.tif', picture(200, 300, seed=1))
    logits, closed = Segmentor.logits, []

    def fail_in_the_second_row(self, prepared):
        if 'pixels 0,100' in prepared.name:
            raise RuntimeError('out of luck')
        return logits(self, prepared)

    read = predict_tiles.Raster.read
    monkeypatch.setattr(Segmentor, 'logits', fail_in_the_second_row)
    monkeypatch.setattr(
        predict_tiles.Raster, 'read', lambda self, tile: closed.append(self.file.closed) or read(self, tile)
    )
    assert demo.main(['field.tif', *segmentor, '--tile', '100', '--overlap', '0', '--workers', workers]) == 1
    assert 'out of luck' in complaints(capsys)[1]
    assert [path for path in (tmp_path / 'outputs').rglob('*') if path.is_file()] == []
    assert not any(closed), 'a file is read from until nobody reads, and closed then'


def test_overlap_without_tiles_is_refused(demo, capsys):
    with pytest.raises(SystemExit):
        demo.main(['a.jpg', 'a.py', 'w.pth', '--overlap', '0.3'])
    assert '--overlap is that of tiles: it needs --tile' in capsys.readouterr().err
