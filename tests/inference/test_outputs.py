"""Every format that predictions are written in, read back by whose format it is."""

import csv
import json
import threading

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from swin_mm.commands import init
from swin_mm.datasets.own.coco import has_mask
from swin_mm.datasets.own.convert import convert
from swin_mm.errors import PreflightError
from swin_mm.inference import Detections, Origin, Panoptic, Segmentation
from swin_mm.inference.outputs import FORMATS, Item, Job, Journal, Output, Writer, open_outputs
from swin_mm.inference.sources import Source

CLASSES = ['cat', 'do/g', '鳥']
HEIGHT, WIDTH = 60, 80
BOXES = np.array([[5, 10, 25, 30], [60.4, 39.6, 79.5, 60], [10, 5, 30, 25]], np.float32)
SCORES, LABELS = np.array([0.9, 0.5, 0.125], np.float32), np.array([1, 2, 0])


def detections(masks=True) -> Detections:
    some = np.zeros((3, HEIGHT, WIDTH), bool)
    some[0, 10:30, 5:25] = some[1, 40:60, 60:79] = some[2, 5:25, 10:30] = True
    some[1, 48:52] = False  # in two pieces
    names = [CLASSES[i] for i in LABELS]
    return Detections(BOXES.copy(), SCORES, LABELS, names, some if masks else None, None, None, Origin(classes=CLASSES))


def nothing() -> Detections:
    empty = np.zeros((0, 4), np.float32)
    masks = np.zeros((0, HEIGHT, WIDTH), bool)
    return Detections(empty, empty[:, 0], LABELS[:0], [], masks, None, None, Origin(classes=CLASSES))


def segmentation() -> Segmentation:
    labels = np.full((HEIGHT, WIDTH), 2)
    labels[:15] = 0
    return Segmentation(labels, {'鳥': 0.75, 'cat': 0.25}, None, Origin(classes=CLASSES))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path, pixels):
    """Writes results as images a, b, ... in a format, and gives the files that are the images' own and the folder."""

    def write(name, *results, score=0.3):
        (tmp_path / 'in').mkdir()
        writer = Writer(open_outputs([name], Job(tmp_path / 'out', CLASSES, score=score)))
        files = []
        for number, (letter, found) in enumerate(zip('abc', results), 1):  # noqa: B905
            source = tmp_path / f'in/{letter}.png'
            Image.fromarray(pixels[..., ::-1]).save(source)
            files.append(writer.write(Item(number, letter, str(source), pixels, found)))
        writer.close()
        return files, tmp_path / 'out'

    return write


def test_coco_evaluates_with_all_objects_of_whatever_score(write):
    files, out = write('coco', detections(), nothing(), detections())
    assert files == [[], [], []]
    truth = COCO(out / 'coco/images.json')
    assert [(image['id'], image['file_name'][-5:]) for image in truth.loadImgs([1, 2, 3])] == [
        (1, 'a.png'),
        (2, 'b.png'),
        (3, 'c.png'),
    ]
    assert [category['name'] for category in truth.loadCats(truth.getCatIds())] == CLASSES
    read = truth.loadRes(str(out / 'coco/predictions.json'))
    assert {image: len(read.getAnnIds(image)) for image in (1, 2, 3)} == {1: 3, 2: 0, 3: 3}
    first = read.loadAnns(read.getAnnIds(1))
    assert [one['category_id'] for one in first] == [2, 3, 1]
    np.testing.assert_allclose([one['score'] for one in first], SCORES)
    np.testing.assert_array_equal([read.annToMask(one) for one in first], detections().masks)


def test_coco_of_a_segmentation_has_a_mask_a_class(write):
    _, out = write('coco', segmentation())
    records = json.loads((out / 'coco/predictions.json').read_text())
    assert [(record['image_id'], record['category_id']) for record in records] == [(1, 3), (1, 1)]


@pytest.mark.parametrize('masks', [True, False], ids=['outlines', 'boxes'])
def test_supervision_reads_yolo_labels(write, tmp_path, masks):
    supervision = pytest.importorskip('supervision')
    files, out = write('yolo', detections(masks), nothing())
    assert [[file.name for file in some] for some in files] == [['a.txt'], ['b.txt']]
    paths = [str(path) for path in (tmp_path / 'in', out / 'yolo/labels', out / 'yolo/data.yaml')]
    read = supervision.DetectionDataset.from_yolo(*paths)
    assert read.classes == CLASSES
    found = {path[-5:]: annotation for path, _, annotation in read}
    assert len(found['b.png']) == 0
    assert found['a.png'].class_id.tolist() == [1, 2]  # the third scores too little
    expected = BOXES[:2].copy()
    if masks:
        expected[1] = 60, 40, 79, 48  # the larger piece, of 8 rows, is the first or the last
        expected[1, 1::2] = (52, 60) if found['a.png'].xyxy[1][1] > 45 else (40, 48)
    np.testing.assert_allclose(found['a.png'].xyxy, expected, atol=1)


@pytest.mark.parametrize('masks', [True, False], ids=['outlines', 'boxes'])
def test_init_reads_labelme_labels_back(write, masks, monkeypatch, capsys):
    files, out = write('labelme', *[detections(masks)] * 3)
    assert [file.name for file in files[0]] == ['a.png', 'a.json']
    name, parts = convert(out / 'labelme', out)
    assert name == 'LabelMe'
    content = parts['train'].content
    names = {category['id']: category['name'] for category in content['categories']}
    first = [one for one in content['annotations'] if one['image_id'] == 1]
    assert [names[one['category_id']] for one in first] == ['do/g', '鳥']
    expected = BOXES[:2].copy()
    expected[1] = (60, 40, 79, 60) if masks else expected[1]
    expected[:, 2:] -= expected[:, :2]
    np.testing.assert_allclose([one['bbox'] for one in first], expected, rtol=1e-5)
    assert all(has_mask(one) == masks for one in first)
    assert len(first[1]['segmentation']) == (2 if masks else 0)

    monkeypatch.chdir(out)
    init.main(['--data', 'labelme', '-o', 'again.py'])
    assert f'{"boxes and masks" if masks else "boxes"} of 2 classes' in capsys.readouterr().out


def test_labelme_has_an_image_also_for_frames_that_are_no_file(tmp_path, pixels):
    (output,) = open_outputs(['labelme'], Job(tmp_path, CLASSES))
    image, text = output.write(Item(1, 'frame', 'frame 7 of a.mp4', pixels, detections()))
    assert json.loads(text.read_text())['imagePath'] == image.name
    np.testing.assert_array_equal(np.asarray(Image.open(image)), pixels[..., ::-1])


def test_objects_with_an_empty_mask_teach_nothing(write):
    found = detections()
    found.masks[0] = False
    _, out = write('labelme', found)
    labels = [shape['label'] for shape in json.loads((out / 'labelme/a.json').read_text())['shapes']]
    assert labels == ['鳥', '鳥']


def test_csv_has_a_row_an_object_of_whatever_score(write):
    files, out = write('csv', detections(), nothing(), detections(masks=False))
    assert files == [[], [], []]
    rows = list(csv.DictReader((out / 'predictions.csv').open(newline='')))
    assert [(row['image'][-5:], row['object'], row['class']) for row in rows[:4]] == [
        ('a.png', '1', 'do/g'),
        ('a.png', '2', '鳥'),
        ('a.png', '3', 'cat'),
        ('c.png', '1', 'do/g'),
    ]
    for i, row in enumerate(rows[:3]):
        np.testing.assert_allclose([float(row[key]) for key in ('x1', 'y1', 'x2', 'y2')], BOXES[i], atol=0.01)
        assert float(row['score']) == SCORES[i].round(4)
        assert int(row['pixels']) == detections().masks[i].sum()
    assert rows[3]['pixels'] == ''


def test_csv_of_a_segmentation_has_a_row_a_class(write):
    _, out = write('csv', segmentation())
    rows = list(csv.DictReader((out / 'predictions.csv').open(newline='')))
    assert [(row['class'], row['label'], float(row['share']), row['pixels']) for row in rows] == [
        ('鳥', '2', 0.75, '3600'),
        ('cat', '0', 0.25, '1200'),
    ]


def test_a_mask_has_the_number_of_the_object_the_best_on_top(write):
    ((file,),), _ = write('masks', detections(), score=0.1)
    numbers = np.asarray(Image.open(file))
    masks = detections().masks
    np.testing.assert_array_equal(numbers == 1, masks[0])
    np.testing.assert_array_equal(numbers == 2, masks[1])
    np.testing.assert_array_equal(numbers == 3, masks[2] & ~masks[0])


def test_a_mask_of_few_classes_and_many_objects_fits_its_png(write):
    many = detections()
    many = Detections(
        np.repeat(BOXES, 100, 0),
        np.repeat(SCORES, 100),
        np.repeat(LABELS, 100),
        ['cat'] * 300,
        np.repeat(many.masks, 100, 0),
        None,
        None,
    )
    ((file,), (classes,)), _ = write('masks', many, segmentation(), score=0)
    assert np.asarray(Image.open(file)).max() == 201
    np.testing.assert_array_equal(np.asarray(Image.open(classes)), segmentation().labels)


def test_masks_of_segments_and_of_boxes(write, tmp_path, pixels):
    segments = np.full((HEIGHT, WIDTH), -1)
    segments[5:, 5:] = 0
    panoptic = Panoptic(segments, np.array([1]), ['do/g'], np.array([1]))
    found = Detections(BOXES[:0], SCORES[:0], LABELS[:0], [], None, panoptic, None, Origin(classes=CLASSES))
    ((file,),), _ = write('masks', found)
    np.testing.assert_array_equal(np.asarray(Image.open(file)), segments + 1)
    (output,) = open_outputs(['masks'], Job(tmp_path, CLASSES))
    with pytest.raises(PreflightError, match='--save masks needs a model that finds masks'):
        list(output.write(Item(1, 'a', 'a.png', pixels, detections(masks=False))))


def test_crops_are_the_boxes_in_folders_of_classes(write, pixels):
    found = detections()
    found.boxes[0] = -5, -5, 0, 0  # outside
    (files,), out = write('crops', found)
    assert [str(file.relative_to(out)) for file in files] == ['crops/鳥/a_2.jpg']
    crop = np.asarray(Image.open(files[0]))
    expected = pixels[39:60, 60:80, ::-1]
    assert crop.shape == expected.shape
    assert np.abs(crop.mean((0, 1)) - expected.mean((0, 1))).max() < 4


def test_a_class_is_a_folder_whatever_its_name(write):
    (files,), out = write('crops', detections())
    assert files[0].relative_to(out).parts == ('crops', 'do_g', 'a_1.jpg')


@pytest.mark.parametrize('name', ['coco', 'csv'])
def test_what_cannot_be_written_leaves_the_files_of_all_images_as_they_were(tmp_path, pixels, name, monkeypatch):
    journal = Journal(tmp_path, {})
    journal.open()
    writer = Writer(open_outputs(['json', name], Job(tmp_path, CLASSES)), journal)
    items = [Item(i, str(i), f'{i}.png', pixels, detections()) for i in (1, 2, 3)]
    writer.write(items[0])
    before = {file.path: file.path.read_bytes() for file in (*writer.growing, journal.file)}
    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer.write(items[1])
    assert {path: path.read_bytes() for path in before} == before
    writer.write(items[2])
    writer.close()
    text = next(path for path in before if path.name.startswith('predictions')).read_text()
    assert text.count('1.png' if name == 'csv' else '"image_id": 1,') == 3
    assert text.count('2.png' if name == 'csv' else '"image_id": 2,') == 0
    assert text.count('3.png' if name == 'csv' else '"image_id": 3,') == 3


class Waiting(Output):
    """Writes an image only once the model has the next one."""

    place = ''

    def write(self, item):
        assert NEXT[item.number].wait(10)
        yield self.folder / item.name


NEXT = [threading.Event() for _ in range(5)]


def test_the_model_has_the_next_image_while_one_is_written(tmp_path, pixels):
    class Model:
        def stream(self, images, batch_size, workers):
            for number, _ in enumerate(images):
                NEXT[number].set()
                yield pixels, detections()
            NEXT[-1].set()

    sources = [Source(str(number), pixels, number=number) for number in range(1, 5)]
    written = list(Writer([Waiting(Job(tmp_path, CLASSES))]).stream(Model(), sources, workers=2))
    assert [(one.files, one.reason) for one in written] == [([tmp_path / str(number)], '') for number in range(1, 5)]


def test_every_format_says_what_it_is():
    for name, output in FORMATS.items():
        assert output.__doc__, name
        assert set(output.tasks) <= {'detection', 'segmentation'}
