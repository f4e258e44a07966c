"""What the page's server answers over HTTP: results as the predictors give them, or one sentence."""

import base64
import io
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_masks
from samples import odd_images
from samples.page_server import HOST, serving
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, ROOT, picture, save_checkpoint

from swin_mm.inference import Detector, Segmentor

ROUNDS = 4
PNG = odd_images.encoded(Image.fromarray(picture(96, 128)), 'PNG')


@pytest.fixture(scope='module')
def detector(tiny):
    return Detector(tiny.config, tiny.checkpoint, max_pixels=100_000)


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory):
    path = tmp_path_factory.mktemp('page') / 'pico.pth'
    meta = dict(classes=CLASSES, palette=PALETTE)
    return Segmentor(CONFIG, save_checkpoint(path, Config.fromfile(CONFIG), dataset_meta=meta))


@pytest.fixture(scope='module')
def server(detector, segmentor):
    with serving(dict(objects=detector, scenes=segmentor), examples=(b'first',), max_bytes=300_000) as running:
        yield running


@pytest.fixture
def slow(detector):
    """A detector that waits until it is let go."""

    class Slow:
        def __init__(self):
            self.go, self.begun, self.calls = threading.Event(), threading.Event(), 0

        def __getattr__(self, name):
            return getattr(detector, name)

        def __call__(self, image):
            self.calls += 1
            self.begun.set()
            assert self.go.wait(60)
            return detector(image)

    return Slow()


def test_objects_are_those_of_the_detector(server, detector):
    answer = server.predict(PNG)
    assert answer.status == 200
    content = answer.content
    assert (content['model'], content['width'], content['height']) == ('objects', 128, 96)
    [found] = detector(picture(96, 128)[..., ::-1].copy())
    assert len(found.scores) > 1
    np.testing.assert_allclose(content['bboxes'], found.boxes, atol=1e-3)
    np.testing.assert_allclose(content['scores'], found.scores, atol=1e-5)
    assert content['label_names'] == found.names
    masks = [coco_masks.decode(code) for code in content['masks']]
    assert np.array_equal(np.array(masks, bool), found.masks)
    least = content['scores'][1]
    assert server.predict(PNG, f'?score={least}').content['scores'] == content['scores'][:2]
    assert 0 < content['seconds'] < 60


def test_classes_of_pixels_are_those_of_the_segmentor(server, segmentor):
    content = server.predict(PNG, '?model=scenes').content
    [found] = segmentor(picture(96, 128)[..., ::-1].copy())
    labels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content['sem_seg_png']))))
    assert len(np.unique(labels)) > 2
    assert np.array_equal(labels, found.labels)
    assert content['shares'] == found.shares
    assert content['labels'] == {name: CLASSES.index(name) for name in found.shares}


def test_a_preview_shows_the_picture_upright(server):
    pixels = picture(96, 128)
    answer = server.predict(odd_images.turned(Image.fromarray(pixels).rotate(-90, expand=True), 8), '?preview=true')
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.content['preview'])))).astype(int)
    assert shown.shape == (96, 128, 3)
    assert abs(shown - pixels).mean() < 5


def test_a_panoptic_result_has_its_segments(detector):
    from swin_mm.inference.page.answers import to_json
    from swin_mm.inference.results import Detections, Panoptic

    segments = np.array([[0, 0, -1], [1, 1, 1]])
    panoptic = Panoptic(segments, np.array([2, 70]), ['car', 'sky'], np.array([1002, 70]))
    nothing = np.zeros((0, 4), np.float32)
    found = Detections(nothing, nothing[:, 0], np.zeros(0, int), [], None, panoptic, None)
    content = to_json(found, 0)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content['panoptic_seg_png'])))).astype(int)
    assert (pixels @ [1, 256, 65536]).tolist() == [[1002, 1002, 0], [70, 70, 70]]
    assert content['segments_info'][0] == dict(id=1002, label=2, label_name='car')
    json.dumps(content)


@pytest.mark.parametrize(
    ('path', 'options', 'status', 'words'),
    [
        ('/predict?model=../../etc/passwd', {}, 404, 'model must be one of objects, scenes, got ../../etc/passwd'),
        ('/predict?score=2', {}, 400, 'score: Input should be less than or equal to 1, got 2'),
        ('/predict', dict(body=b''), 422, 'got nothing'),
        ('/predict', dict(body=b'<html>'), 422, 'the picture: not an image that OpenCV can decode'),
        ('/predict', dict(body=odd_images.png_of(9000, 9000)), 422, 'must have at most 100000 pixels, got 9000x9000'),
        ('/predict', dict(body=bytes(300_001)), 413, 'at most 0.3 MB'),
        ('/predict', dict(body=b'x', headers={'Content-Type': 'multipart/form-data; boundary=x'}), 415, 'curl'),
        ('/predict', dict(method='GET', body=None), 405, 'GET /predict: Method Not Allowed'),
        ('/../../etc/passwd', dict(method='GET', body=None), 404, 'Not Found'),
        ('/examples/1', dict(method='GET', body=None), 404, 'Not Found'),
        ('/predict', dict(headers={'Host': 'evil.example'}), 400, 'answers to the host 127.0.0.1 or '),
        ('/models', dict(method='GET', headers={'Host': 'evil.example:8000'}), 400, 'answers to the host'),
        ('/predict', dict(headers={'Sec-Fetch-Site': 'cross-site'}), 403, 'a page of another site'),
    ],
)
def test_what_is_refused_gets_one_sentence(server, path, options, status, words):
    answer = server.ask(**(dict(method='POST', path=path, body=PNG) | options))
    assert answer.status == status
    assert list(answer.content) == ['error']
    assert words in answer.content['error']
    assert '\n' not in answer.content['error']
    assert answer.headers['x-content-type-options'] == 'nosniff'


def test_a_body_without_a_length_is_cut_off_at_the_limit(server):
    with socket.create_connection((HOST, server.port), timeout=30) as connection:
        connection.sendall(b'POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n')
        for _ in range(40):
            connection.sendall(b'2710\r\n' + bytes(10_000) + b'\r\n')
        connection.sendall(b'0\r\n\r\n')
        assert b' 413 ' in connection.recv(100)


def test_a_sender_of_far_too_much_reads_why(detector):
    """A connection that is closed while it sends would tell it nothing: uvicorn takes the rest and forgets it."""
    with serving(dict(objects=detector), max_bytes=10_000_000) as running:
        assert running.predict(bytes(39_000_000)).status == 413


def test_a_slow_upload_is_given_up(detector):
    with (
        serving(dict(objects=detector), upload_seconds=0.3) as running,
        socket.create_connection((HOST, running.port), timeout=30) as connection,
    ):
        connection.sendall(b'POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nslow')
        assert b' 408 ' in connection.recv(100)


def test_a_full_queue_says_when_to_come_back_and_the_page_is_still_there(slow):
    with serving(dict(objects=slow), waiting=1) as running, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(running.predict, PNG) for _ in range(3)]
        done, waiting = wait(asked, 60, FIRST_COMPLETED)
        [refused] = [answer.result() for answer in done]
        assert refused.status == 503
        assert int(refused.headers['retry-after']) >= 1
        assert 'try again' in refused.content['error']
        assert running.ask('GET', '/').status == 200, 'the loop is not blocked'
        slow.go.set()
        assert [answer.result().status for answer in waiting] == [200, 200]


def test_a_result_that_takes_too_long_is_not_waited_for_and_what_waited_never_begins(slow):
    with serving(dict(objects=slow), seconds=0.5) as running, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(running.predict, [PNG] * 2))
        assert [answer.status for answer in answers] == [504, 504]
        assert 'no result within 0.5 seconds' in answers[0].content['error']
        slow.go.set()
        assert running.predict(PNG).status == 200
        assert slow.calls == 2


def test_a_picture_whose_sender_has_gone_is_not_predicted(slow):
    with serving(dict(objects=slow)) as running, ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.predict, PNG)
        assert slow.begun.wait(60)
        with socket.create_connection((HOST, running.port), timeout=30) as connection:
            head = f'POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PNG)}\r\n\r\n'
            connection.sendall(head.encode() + PNG)
            time.sleep(0.3)
        time.sleep(0.3)
        slow.go.set()
        assert first.result().status == 200
        assert running.predict(PNG).status == 200
        assert slow.calls == 2


def test_who_waits_when_the_server_ends_is_told(slow, capfd):
    with ThreadPoolExecutor(1) as pool:
        with serving(dict(objects=slow)) as running:
            asked = pool.submit(running.predict, PNG)
            assert slow.begun.wait(60)
        answer = asked.result()
        slow.go.set()
    assert (answer.status, answer.content['error']) == (503, 'the server is ending: ask again when it is back')
    assert 'Traceback' not in capfd.readouterr().err


@pytest.mark.parametrize(
    ('kind', 'said'),
    [
        (RuntimeError, 'objects fails on a picture of 128x96 pixels: try another size'),
        (TypeError, 'the server met an error of its own, which its log has'),
    ],
)
def test_words_of_the_libraries_stay_in_the_log(detector, caplog, capfd, kind, said):
    class Failing:
        def __getattr__(self, name):
            return getattr(detector, name)

        def __call__(self, image):
            raise kind(f'{image.name}: /home/me/secret.cpp')

    with serving(dict(objects=Failing())) as running:
        answer = running.predict(PNG)
    assert (answer.status, answer.content) == (500, dict(error=said))
    assert 'content-security-policy' in answer.headers
    assert 'secret.cpp' in caplog.text + capfd.readouterr().err


def test_every_answer_has_the_headers_of_a_page_that_needs_nobody_else(server):
    for path in ('/', '/page.js', '/page.css', '/drawing.js', '/masks.js', '/models', '/openapi.json', '/examples/0'):
        answer = server.ask('GET', path)
        assert answer.status == 200, path
        policy = answer.headers['content-security-policy']
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert 'unsafe' not in policy
        assert not [name for name in answer.headers if name.startswith('access-control')]
        if isinstance(answer.content, bytes):
            assert b'http' not in answer.content.replace(b'http://www.w3.org', b''), 'nothing from elsewhere'


def test_openapi_tells_the_body_and_every_answer(server):
    content = server.ask('GET', '/openapi.json').content
    predict = content['paths']['/predict']['post']
    assert predict['requestBody']['content']['image/*']['schema'] == dict(type='string', format='binary')
    assert {'200', '404', '413', '415', '422', '503', '504'} <= set(predict['responses'])
    described = content['components']['schemas']['Prediction']['properties']
    for query in ('?model=objects', '?model=scenes&preview=true'):
        assert set(server.predict(PNG, query).content) <= set(described)


def test_the_lines_of_the_documentation_work(server, tmp_path, monkeypatch, capsys):
    lines = re.search(r'```python\n(.*?)```', (ROOT / 'docs/serve.md').read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    Path('street.jpg').write_bytes(PNG)
    exec(lines.replace('http://127.0.0.1:8000/', server.url).replace('score=0.3', 'score=0'), {})
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(server.predict(PNG).content['scores'])
    assert all(line.endswith(' pixels') for line in shown)


def test_models_that_the_page_cannot_show_are_refused(segmentor, monkeypatch):
    monkeypatch.setattr(segmentor, 'classes', [str(i) for i in range(257)])
    with pytest.raises(ValueError, match='big must have at most 256 classes'), serving(dict(big=segmentor)):
        pass
    monkeypatch.setattr(segmentor, 'reader', object())
    with pytest.raises(ValueError, match='big must read pictures'), serving(dict(big=segmentor)):
        pass


@pytest.fixture
def written(monkeypatch, tmp_path):
    """The files that Python opens to write, anywhere; libraries in C find a folder for temporary files of their own."""
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    monkeypatch.chdir(tmp_path)
    paths: list[object] = []
    is_on = [True]

    def note(event, arguments):
        if is_on and event == 'open' and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            paths.append(arguments[0])

    sys.addaudithook(note)  # which nothing removes again
    yield paths
    is_on.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_odd_files_one_by_one_and_fifty_at_once_leave_nothing_behind(detector, segmentor, shared, written):
    """Each of 250 requests gets a result or a sentence; nothing is written, and memory is as before."""
    pixels = picture(odd_images.HEIGHT, odd_images.WIDTH)
    files = list(odd_images.good(pixels).values()) + [data for data, _ in odd_images.bad(pixels).values()]
    files += [path.read_bytes() for path in sorted((shared / 'data/odd_images').iterdir())]
    files = (files * 10)[:200]
    with serving(dict(objects=detector, scenes=segmentor)) as running:

        def ask(numbered: tuple[int, bytes]) -> int:
            number, data = numbered
            answer = running.predict(data, f'?model={("objects", "scenes")[number % 2]}')
            words = answer.content.get('error', '')
            assert answer.status in ((200,) if 'labels' in answer.content else (422, 500, 503)), words
            assert answer.status == 200 or ('\n' not in words and 5 < len(words) < 400)
            return answer.status

        def all_of_them() -> list[int]:
            one_by_one = list(map(ask, enumerate(files)))
            with ThreadPoolExecutor(50) as pool:
                return one_by_one + list(pool.map(ask, enumerate(files[:50])))

        sizes = []
        for _ in range(ROUNDS):
            statuses = all_of_them()
            sizes.append(_resident() / 1e6)
    print(f'{len(statuses)} requests a round; MB after each: {[round(size) for size in sizes]}')
    assert statuses[:200].count(200) > 100
    assert 503 not in statuses[:200]
    assert 503 in statuses[200:]
    assert sizes[-1] - sizes[1] < 15, 'the first rounds fill the caches'
    assert written == []


def _resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
