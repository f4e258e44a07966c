"""The page in a real Chromium: what a person does, and what is drawn, against objects that are known."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from samples import odd_images
from samples.browser import Browser
from samples.page_server import serving

from swin_mm.inference.images import PictureReader
from swin_mm.inference.origin import Origin
from swin_mm.inference.results import Detections, Panoptic, Segmentation

HEIGHT, WIDTH = 90, 160
GREY, RED, BLUE = (128, 128, 128), (220, 30, 30), (30, 60, 230)
BOXES = np.array([[10, 20, 60, 70], [90, 10, 150, 40], [100, 50, 140, 80]], np.float32)
SCORES = np.array([0.9, 0.6, 0.2], np.float32)
NAMES = ['cat', '<b>dog</b>', 'cat']
DONE = '!document.getElementById("result").hidden && document.getElementById("message").textContent === ""'
FAILED = 'document.getElementById("message").className === "error"'


def masks() -> np.ndarray:
    """An ellipse in each box, but a mask of nothing and one with the last pixel of the picture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    found = [
        ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 < 0.25
        for x1, y1, x2, y2 in BOXES.tolist()
    ]
    found[2][:] = False
    found[1][-1, -1] = True
    return np.array(found)


class Known:
    """A model that finds the same in every picture."""

    max_pixels, reader = 1_000_000, PictureReader()

    def __init__(self, scope: str):
        self.scope = scope
        self.classes = ['cat', '<b>dog</b>', 'sky']
        self.dataset_meta = {'palette': [RED, BLUE, (0, 160, 60)]}

    def __call__(self, image):
        if self.scope == 'mmseg':
            labels = np.zeros(image.pixels.shape[:2], int)
            labels[:, labels.shape[1] // 4 :] = 2
            return [Segmentation(labels, {'sky': 0.75, 'cat': 0.25}, None, Origin(classes=self.classes))]
        found = masks() if image.pixels.shape[:2] == (HEIGHT, WIDTH) else np.zeros((3, *image.pixels.shape[:2]), bool)
        return [Detections(BOXES, SCORES, np.array([0, 1, 0]), NAMES, found, self.panoptic(), None)]

    def panoptic(self):
        return None


class KnownSegments(Known):
    """A panoptic model."""

    def panoptic(self):
        segments = np.full((HEIGHT, WIDTH), -1)
        segments[:30], segments[30:60] = 0, 1
        return Panoptic(segments, np.array([2, 0]), ['sky', 'cat'], np.array([2, 70_000]))


@pytest.fixture(scope='module')
def server():
    example = odd_images.encoded(Image.new('RGB', (WIDTH, HEIGHT), GREY), 'JPEG')
    models = dict(objects=Known('mmdet'), classes=Known('mmseg'), segments=KnownSegments('mmdet'))
    with serving(models, (example,), max_bytes=100_000) as running:
        yield running


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp('browser')) as running:
        yield running


@pytest.fixture
def page(browser, server):
    browser.console.clear()
    browser.open(server.url)
    browser.wait('document.querySelectorAll("#examples button").length === 1')
    yield browser
    assert browser.console == [], 'no script failed, and the policy forbade nothing'


@pytest.fixture
def grey(tmp_path):
    path = tmp_path / 'grey day.png'
    Image.new('RGB', (WIDTH, HEIGHT), GREY).save(path)
    return path


def text(page: Browser, name: str) -> str:
    return page.run(f'document.getElementById("{name}").textContent')


def upload(page: Browser, path: Path, until: str = DONE) -> None:
    page.choose_file('#file', path)
    page.wait(until)


def colour(page: Browser, x: float, y: float) -> tuple[int, ...]:
    """What is drawn at a point of the picture, in its pixels."""
    code = f'canvas.width / {WIDTH}; [...canvas.getContext("2d").getImageData({x} * scale, {y} * scale, 1, 1).data]'
    return tuple(page.run(f'{{const canvas = document.getElementById("canvas"), scale = {code}}}')[:3])


def is_near(one: tuple[int, ...], other: tuple[int, ...], tolerance: int = 6) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def toggle(page: Browser, *names: str) -> None:
    for name in names:
        page.click(f'#{name}')


def mix(under: tuple[int, ...], over: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(round(a + (b - a) * 110 / 255) for a, b in zip(under, over, strict=True))


def test_boxes_masks_and_names_stand_where_the_objects_are(page, grey):
    upload(page, grey)
    assert text(page, 'summary') == '2 of 3 objects'
    assert page.run('[...document.querySelectorAll("#list .name")].map((name) => name.textContent)') == NAMES[:2]
    assert is_near(colour(page, 10, 45), RED), 'the left side of a box'
    assert is_near(colour(page, 35, 45), mix(GREY, RED)), 'inside its mask'
    assert is_near(colour(page, 13, 23), GREY), 'in the box, outside its mask'
    assert is_near(colour(page, 120, 65), GREY), 'the third has too low a score'
    toggle(page, 'masks')
    assert is_near(colour(page, 35, 45), GREY)
    toggle(page, 'boxes', 'names')
    assert is_near(colour(page, 10, 45), GREY)
    assert 's for the model' in text(page, 'time')
    assert '160 \u00d7 90 pixels' in text(page, 'time')


def test_the_slider_shows_more_and_less_without_a_request(page, grey):
    upload(page, grey)
    asked = page.run('performance.getEntriesByType("resource").length')
    for value, words in ((0.1, '3 of 3 objects'), (0.7, '1 of 3 objects'), (0.95, '0 of 3 objects')):
        page.run(f'score.value = {value}; score.dispatchEvent(new Event("input"))')
        assert text(page, 'summary') == words
        assert text(page, 'score-shown') == f'{value:.2f}'
    assert is_near(colour(page, 10, 45), GREY)
    page.run('score.focus()')
    for _ in range(10):
        page.press('ArrowLeft', 37)
    assert text(page, 'summary') == '1 of 3 objects', 'by the keyboard too'
    assert page.run('performance.getEntriesByType("resource").length') == asked


def test_the_mouse_and_the_keyboard_choose_an_object(page, grey):
    upload(page, grey)
    left, top, shown = page.run('(({x, y, width}) => [x, y, width])(canvas.getBoundingClientRect())')
    page.move(left + 120 * shown / WIDTH, top + 25 * shown / WIDTH)
    assert text(page, 'tip') == '<b>dog</b> 0.60'
    assert not page.run('tip.hidden')
    assert page.run('document.querySelector("#list .hovered .name").textContent') == '<b>dog</b>', 'its row too'
    assert not is_near(colour(page, 10, 45), RED), 'the others fade'
    page.move(left + 80 * shown / WIDTH, top + 80 * shown / WIDTH)
    assert page.run('tip.hidden')
    assert is_near(colour(page, 10, 45), RED)
    page.move(1, 1)
    page.run('names.focus()')
    page.press('Tab', 9)
    assert page.run('document.activeElement.closest("#list") !== null')
    assert not is_near(colour(page, 90, 25), BLUE)
    page.press('Enter', 13)
    assert page.run('document.activeElement.getAttribute("aria-pressed")') == 'true'
    page.press('Tab', 9)
    page.press('Tab', 9)
    assert not is_near(colour(page, 90, 25), BLUE), 'pressed, it stays'
    page.press('Escape', 27)
    assert is_near(colour(page, 90, 25), BLUE)


def test_masks_are_those_that_were_sent_to_the_pixel(page, server, grey):
    """pycocotools decodes them; the page at the picture's own size must find the same pixels."""
    random = np.random.default_rng(0).random((2, 37, 53)) < [[[0.5]], [[0.02]]]
    for mask in [*masks(), *random, np.ones((5, 7), bool), np.zeros((5, 7), bool)]:
        code = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
        code = json.dumps(dict(size=code['size'], counts=code['counts'].decode()))
        found = page.run(
            f'import("/masks.js").then(({{sampleMask}}) => {{ const buffer = new Uint8Array({mask.size});'
            f'const found = sampleMask({code}, 1, buffer); return found && {{...found, data: [...found.data],'
            'clean: !buffer.includes(1)} })'
        )
        drawn = np.zeros_like(mask)
        if found:
            part = np.array(found['data'], bool).reshape(found['height'], found['width'])
            drawn[found['y'] :, found['x'] :][: found['height'], : found['width']] = part
            assert found['clean']
        assert np.array_equal(drawn, mask)


def test_the_picture_and_the_json_are_saved(page, server, grey):
    upload(page, grey)
    page.click('#save-json')
    path = page.downloaded('.json')
    assert path.name == 'grey day_objects.json'
    saved, sent = json.loads(path.read_text()), server.predict(grey.read_bytes(), '?score=0.05').content
    assert saved | dict(seconds=0) == sent | dict(seconds=0)
    page.click('#save-image')
    pixels = np.asarray(Image.open(page.downloaded('.jpg'))).astype(int)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert abs(pixels[45, 35] - mix(GREY, RED)).max() < 12
    assert abs(pixels[85, 5] - GREY).max() < 12


def test_classes_of_pixels_are_drawn_with_their_shares(page, grey):
    page.run('model.value = "classes"')
    upload(page, grey)
    assert text(page, 'summary') == '2 classes'
    assert page.run('[...document.querySelectorAll("#list button")].map((row) => row.textContent)') == [
        'sky75.0 %',
        'cat25.0 %',
    ]
    assert page.run('document.getElementById("score-row").hidden')
    assert is_near(colour(page, 20, 10), mix(GREY, RED))
    assert is_near(colour(page, 120, 80), mix(GREY, (0, 160, 60)))
    toggle(page, 'masks')
    assert is_near(colour(page, 20, 10), GREY)
    pixels = page.run('[...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]')
    rows, columns = np.nonzero((np.array(pixels).reshape(8 * HEIGHT, 8 * WIDTH, 4)[..., :3] == RED).all(2))
    middle = (columns.min() + columns.max()) / 16, (rows.min() + rows.max()) / 16
    assert np.allclose(middle, (20, 45), atol=1), 'the name of the class stands in the middle of its pixels'


def test_another_model_is_asked_about_the_same_picture_and_segments_are_drawn(page, grey):
    upload(page, grey)
    page.run('model.value = "segments"; model.dispatchEvent(new Event("change"))')
    page.wait('document.getElementById("summary").textContent.includes("segments")')
    assert text(page, 'summary') == '2 of 3 objects, 2 segments'
    assert is_near(colour(page, 20, 5), mix(GREY, (0, 160, 60)))
    assert is_near(colour(page, 5, 45), mix(GREY, RED))
    assert is_near(colour(page, 5, 75), GREY)


def test_a_picture_is_dropped_pasted_or_clicked(page, grey):
    data = base64.b64encode(grey.read_bytes()).decode()
    transfer = (
        f'const transfer = new DataTransfer(); transfer.items.add(new File([Uint8Array.from(atob("{data}"), '
        '(c) => c.charCodeAt(0))], "a.png", {type: "image/png"}));'
    )
    events = (
        'document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}))',
        'document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer}))',
        'document.querySelector("#examples button").click()',
    )
    for event in events:
        page.run(f'{{{transfer} result.hidden = true; {event}}}')
        page.wait(DONE)
        assert text(page, 'summary') == '2 of 3 objects'


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('page.jpg', b'<!DOCTYPE html>', 'The picture: not an image that OpenCV can decode'),
        ('large.png', odd_images.png_of(9000, 9000), 'must have at most 1000000 pixels, got 9000x9000'),
        ('heavy.jpg', bytes(100_001), 'The file must have at most 0.1 MB, it has 0.1.'),
    ],
    ids=['page', 'large', 'heavy'],
)
def test_what_is_refused_is_said_on_the_page(page, tmp_path, grey, name, content, words):
    upload(page, grey)
    (tmp_path / name).write_bytes(content)
    upload(page, tmp_path / name, FAILED)
    assert words in text(page, 'message')
    assert page.run('result.hidden')
    page.console[:] = [line for line in page.console if '422' not in line]  # which Chromium tells by itself
    upload(page, grey)


def test_pictures_that_no_browser_shows_and_turned_ones_are_shown(page, tmp_path):
    upright = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    upright[60:] = BLUE
    image = Image.fromarray(upright)
    files = {'page.tif': odd_images.encoded(image, 'TIFF')}
    files['turned.jpg'] = odd_images.turned(image.transpose(Image.Transpose.ROTATE_90), 6)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        upload(page, tmp_path / name)
        assert is_near(colour(page, 80, 5), GREY, 12), name
        assert is_near(colour(page, 80, 85), BLUE, 12), name
        page.run('result.hidden = true')


@pytest.mark.parametrize('dark', [False, True])
def test_a_phone_shows_everything_without_scrolling_sideways(browser, server, grey, dark):
    browser.open(server.url, 390, 844, dark)
    browser.wait('document.querySelectorAll("#examples button").length === 1')
    upload(browser, grey)
    assert browser.run('document.documentElement.scrollWidth') == 390
    small = (
        '[...document.querySelectorAll("button, select, label.button")].filter((one) => one.offsetParent && '
        'one.getBoundingClientRect().height < 28).map((one) => one.id)'
    )
    assert browser.run(small) == [], 'nothing is too small for a finger'
    shades = browser.run('getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)')
    assert (max(shades) < 60) is dark
