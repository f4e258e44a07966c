"""What `browse` draws stands where the annotations are, behind the pipeline."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from samples.tiny_training import ROOT

from swin_mm.commands import browse
from swin_mm.datasets.browsing import IGNORED, Sample, Split
from swin_mm.datasets.contact_sheets import draw, summary, write_page
from swin_mm.datasets.shapes.write import write_shapes
from swin_mm.errors import PreflightError

DETECTOR, SEGMENTOR = (ROOT / f'configs/{name}_swin_pico_shapes.py' for name in ('mask_rcnn', 'upernet'))
RED, BLUE = (255, 0, 0), (0, 0, 255)
PALETTE = np.array([RED, BLUE], np.uint8)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('browse') / 'shapes', train=3, val=2)


def sample(**parts) -> Sample:
    nothing = dict(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), masks=None, label_map=None)
    return Sample(**dict(name='a.jpg', pixels=np.full((40, 80, 3), 100, np.uint8)) | nothing | parts)


def split(path: Path, root: Path, which: str = 'train', **changes) -> Split:
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(root)
    cfg.merge_from_dict(changes)
    return Split(cfg, which)


def test_a_box_is_drawn_on_its_pixels_and_scaled_with_the_image():
    drawn = np.asarray(
        draw(sample(boxes=np.array([[10.0, 10.0, 30.0, 36.0]]), labels=np.array([0])), ['a', 'b'], PALETTE, 160)
    )
    assert drawn.shape == (80, 160, 3)
    red = (drawn == RED).all(2)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 72, 20, 60)
    assert red[72, 20:61].all()
    assert red[60:73, 20].all()
    assert red[60:73, 60].all()
    assert (drawn[50:70, 25:55] == 100).all(), 'what is inside stays'


def test_masks_and_label_maps_are_tinted_where_they_are_and_nowhere_else():
    mask = np.zeros((1, 40, 80), bool)
    mask[0, 30:40, 60:80] = True
    boxes, tinted = np.array([[60.0, 0.0, 79.0, 39.0]]), (162, 60, 60)  # 0.6 x 100 + 0.4 x red
    drawn = np.asarray(draw(sample(boxes=boxes, labels=np.array([0]), masks=mask), ['a', 'b'], PALETTE, 80))
    assert (drawn[31:37, 63:77] == tinted).all()
    assert (drawn[:, :58] == 100).all()
    label_map = np.full((40, 80), 255)
    label_map[:, 40:] = 1
    drawn = np.asarray(draw(sample(label_map=label_map), ['a', 'b'], PALETTE, 80))
    assert (drawn[:, :40] == 100).all(), 'ignored'
    assert (drawn[:5, 41:] == (60, 60, 162)).all()


def test_what_is_ignored_is_grey_and_counts_are_said():
    found = sample(boxes=np.array([[1.0, 1, 20, 20], [30, 1, 60, 30], [2, 2, 9, 9]]), labels=np.array([1, IGNORED, 1]))
    drawn = np.asarray(draw(found, ['a', 'b'], PALETTE, 80))
    assert (drawn[30, 30:61] == 128).all()
    assert summary(found, ['a', 'b']) == '1 ignored, 2 b'
    assert summary(sample(), ['a', 'b']) == 'no objects'
    label_map = np.full((40, 80), 255)
    label_map[:10] = 0
    assert summary(sample(label_map=label_map), ['a', 'b']) == 'a 25.0 %, ignored 75.0 %'


@pytest.mark.parametrize('config', [DETECTOR, SEGMENTOR], ids=lambda path: path.stem)
@pytest.mark.parametrize('which', ['train', 'val'])
def test_a_picture_and_a_page_are_written_for_a_split(shapes, tmp_path, capsys, config, which):
    words = [str(config), '--out', str(tmp_path), '--split', which, '--number', '2']
    browse.main([*words, '--cfg-options', f'data_root={shapes}'])
    picture, page = (Path(line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert Image.open(picture).size == (2 * 408 + 8, 430 + 8)
    text = page.read_text()
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == 2
    assert all(max(Image.open(BytesIO(base64.b64decode(data))).size) == 720 for data in images)
    assert '<script' not in text
    assert 'http' not in text


def test_colours_are_those_of_the_file_and_boxes_those_of_the_annotations(shapes):
    """Without a flip, what is browsed is the file."""
    content = json.loads((shapes / 'annotations/instances_train.json').read_text())
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    data = split(DETECTOR, shapes, **{'train_dataloader.dataset.pipeline': [*pipeline, dict(type='PackDetInputs')]})
    for found in data.read(3, seed=0):
        (image,) = [image for image in content['images'] if image['file_name'] == found.name]
        pixels = np.asarray(Image.open(shapes / 'train' / found.name)).astype(int)
        assert abs(found.pixels - pixels).mean() < 2
        objects = [item for item in content['annotations'] if item['image_id'] == image['id']]
        objects = sorted(objects, key=lambda item: item['iscrowd'])
        x, y, w, h = np.array([item['bbox'] for item in objects]).T
        np.testing.assert_allclose(found.boxes, np.stack([x, y, x + w, y + h], 1), atol=1e-3)
        assert [label == IGNORED for label in found.labels] == [bool(item['iscrowd']) for item in objects]
        assert found.masks is not None
        assert found.masks.shape == (len(objects), *found.pixels.shape[:2])


def test_annotations_of_a_test_pipeline_are_resized_with_the_image(shapes):
    """They are loaded after the resize there, for the image as it was."""
    whole, half = (
        {item.name: item for item in split(DETECTOR, shapes, 'val', **changes).read(2, 0)}
        for changes in ({}, {'val_dataloader.dataset.pipeline.1.scale_factor': 0.5})
    )
    assert whole.keys() == half.keys()
    for name in whole:
        ratio = np.array(half[name].pixels.shape[1::-1]) / whole[name].pixels.shape[1::-1]
        np.testing.assert_allclose(half[name].boxes, whole[name].boxes * [*ratio, *ratio], atol=0.02)
        assert half[name].masks.shape[1:] == half[name].pixels.shape[:2]


def test_a_seed_chooses_images_and_their_augmentation(shapes):
    def flips(seed: int) -> list:
        return [(item.name, item.boxes.tolist()) for item in split(DETECTOR, shapes).read(3, seed)]

    assert flips(0) == flips(0)
    assert len({str(flips(seed)) for seed in range(4)}) > 1


def test_other_classes_than_coco_s_get_colours_that_are_told_apart(shapes):
    own = dict(type='CocoDataset', metainfo=dict(classes=('circle', 'square', 'triangle', 'star', 'cross')))
    colours = split(
        DETECTOR, shapes, **{f'train_dataloader.dataset.{key}': value for key, value in own.items()}
    ).palette
    distances = np.linalg.norm(colours[:, None].astype(int) - colours, axis=2)
    assert distances[np.triu_indices(5, 1)].min() > 120  # 88 with the first five of COCO's 80


def test_bands_are_drawn_as_their_loader_shows_them(tmp_path):
    shapes = write_shapes(tmp_path / 'heat', train=1, val=1, heat=True)
    data = split(ROOT / 'configs/mask_rcnn_swin_pico_heat.py', shapes, 'val')
    (found,) = data.read(5, 0)
    bands = np.load(shapes / 'val' / found.name)[..., :3].astype(float)
    shown = found.pixels.astype(float)
    for band in range(3):  # stretched, each by itself
        assert np.corrcoef(bands[..., band].ravel(), shown[..., band].ravel())[0, 1] > 0.99
    assert data.classes == ('cold', 'hot')


def test_names_of_files_and_classes_are_no_markup(tmp_path):
    found = sample(name='<b>.jpg', boxes=np.array([[1.0, 1, 9, 9]]), labels=np.array([0]))
    text = write_page(tmp_path / 'a.html', [found], ['<i>', 'b'], PALETTE, '<u>').read_text()
    assert not re.search('<[biu]>', text)
    assert '&lt;b&gt;.jpg, 80 x 40: 1 &lt;i&gt;' in text


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['test_dataloader=None'], 'must set test_dataloader to be browsed, got None'),
        (['test_dataloader.dataset.ann_file=gone.json'], r'gone\.json'),
        (['test_dataloader.dataset.pipeline=[]'], 'the pipeline must end with PackDetInputs or PackSegInputs'),
    ],
)
def test_data_that_cannot_be_browsed_are_refused(shapes, tmp_path, options, words):
    with pytest.raises(PreflightError, match=words):
        browse.main(
            [str(DETECTOR), '--split', 'test', '--out', str(tmp_path), '--cfg-options', f'data_root={shapes}', *options]
        )
