"""Images from web servers come out as from files; a server that is slow, broken or endless is one sentence."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from samples import odd_images
from samples.odd_images import HEIGHT, WIDTH
from samples.pico_segmentor import picture

from swin_mm.inference import Detector, urls
from swin_mm.inference.images import read_image

READER = dict(flag='color', backend='cv2')
DATA = odd_images.good(picture(HEIGHT, WIDTH))['plain.png']


class Handler(BaseHTTPRequestHandler):
    """Serves a picture at /plain.png; the other paths say what is wrong with the answer."""

    def do_GET(self):
        what = self.path.partition('?')[0].strip('/')
        if what == 'moved':
            self.send_response(302)
            self.send_header('Location', '/plain.png')
        else:
            self.send_response(404 if what == 'gone.png' else 200)
        sizes = {'large': 10**12, 'short': len(DATA), 'plain.png': len(DATA), 'Z%C3%BCrich.png': len(DATA)}
        if what in sizes:
            self.send_header('Content-Length', str(sizes[what]))
        self.end_headers()
        try:
            if what in ('endless', 'drip'):
                for _ in range(2000):
                    self.wfile.write(bytes(50_000 if what == 'endless' else 1))
                    time.sleep(0.001 if what == 'endless' else 0.02)
            elif what == 'silent':
                time.sleep(1)
            elif what != 'moved':
                self.wfile.write({'short': DATA[:90], 'page': b'<html>sorry'}.get(what, DATA))
        except ConnectionError:
            pass  # the client had enough

    def log_message(self, *_):
        pass


@pytest.fixture(scope='module')
def server():
    running = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    yield f'http://127.0.0.1:{running.server_port}'
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize('path', ['plain.png', 'plain.png?size=2', 'moved', 'Zürich.png'])
def test_a_url_gives_what_its_file_gives(server, tmp_path, path):
    file = tmp_path / 'plain.png'
    file.write_bytes(DATA)
    np.testing.assert_array_equal(read_image(f'{server}/{path}', READER), read_image(file, READER))


@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('gone.png', 'the server says 404 Not Found'),
        ('large', 'the file must have at most 1.00 MB: download it, and give its path'),
        ('endless', 'the file must have at most 1.00 MB: download it, and give its path'),
        ('drip', 'not whole after 0.2 seconds'),
        ('silent', 'timed out'),
        ('short', f'the connection broke off after 90 of {len(DATA)} bytes'),
        ('page', 'not an image that OpenCV can decode'),
    ],
)
def test_what_a_server_does_wrong_is_one_sentence(server, monkeypatch, path, words):
    for name, value in dict(MAX_BYTES=1_000_000, TIMEOUT=0.1, LONGEST=0.2).items():
        monkeypatch.setattr(urls, name, value)
    began = time.monotonic()
    with pytest.raises((OSError, ValueError)) as caught:
        read_image(f'{server}/{path}?token=secret', READER)
    assert str(caught.value).startswith(f'{server}/{path}: {words}')
    assert len(str(caught.value).splitlines()) == 1
    assert 'secret' not in str(caught.value)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize('url', ['http://', 'http://127.0.0.1:1/x.jpg', 'http://[/x', 'http://127.0.0.1:x/a.jpg'])
def test_what_is_no_address_is_a_reason(url):
    with pytest.raises((OSError, ValueError)) as caught:
        read_image(url, READER)
    assert len(str(caught.value).splitlines()) == 1


def test_a_failed_url_stops_no_other(server, tiny):
    detector = Detector(tiny.config, tiny.checkpoint, device='cpu')
    found = list(detector.stream([f'{server}/{name}' for name in ('plain.png', 'gone.png', 'plain.png')], workers=2))
    assert [type(one) for one in found] == [tuple, OSError, tuple]
    assert found[0][0].shape == (HEIGHT, WIDTH, 3)
