"""``swin-mm serve``: a process that answers until Ctrl-C, and what it refuses before it starts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image
from samples.pico_segmentor import CONFIG, picture
from samples.tiny_training import ROOT

from swin_mm.commands import serve
from swin_mm.errors import PreflightError


@pytest.fixture
def words(tiny):
    return [str(tiny.config), str(tiny.checkpoint)]


@pytest.fixture
def web():
    for package in ('fastapi', 'uvicorn'):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install swin-mm[serve]')


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_the_process_answers_until_it_is_stopped(web, words, tmp_path, stop):
    Image.fromarray(picture(96, 128)).save(tmp_path / 'a.png')
    command = [sys.executable, '-m', 'swin_mm', 'serve', *words, '--model', f'again={words[0]},{words[1]}']
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    process = subprocess.Popen(
        [*command, '--port', '0', '--examples', str(tmp_path)],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stdout.readline, '')
        line = next((line for line in lines if line.startswith('http')), '')
        assert line, process.stderr.read()
        assert line.endswith(' shows tiny, again; Ctrl-C ends it\n')
        url = re.match(r'http://127\.0\.0\.1:\d+', line)[0]
        request = urllib.request.Request(f'{url}/predict?model=again', (tmp_path / 'a.png').read_bytes())
        content = json.loads(urllib.request.urlopen(request, timeout=60).read())
        assert (content['width'], content['height'], content['model']) == (128, 96, 'again')
        assert urllib.request.urlopen(f'{url}/examples/0', timeout=60).headers['Content-Type'] == 'image/jpeg'
        process.send_signal(stop)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (130 if stop == signal.SIGINT else -signal.SIGTERM)
    assert 'Traceback' not in said
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_an_address_that_is_taken_is_refused_before_a_model_is_loaded(words):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(PreflightError, match=f'--port {port} cannot be listened on: .*: name another'):
            serve.main([words[0], 'gone.pth', '--port', port])


@pytest.mark.parametrize(
    ('more', 'said'),
    [
        (['--model', 'scenes'], '--model must be NAME=MODEL or NAME=MODEL,WEIGHTS, got scenes'),
        (['--model', 'a=b,'], 'got a=b,'),
        (['--model', 'tiny=b,c'], '--model must have a name of its own, got tiny twice'),
        (['--queue', '-1'], '--queue must be at least 0, got -1'),
        (['--max-megabytes', '0'], '--max-megabytes must be at least 0.001, got 0.0'),
    ],
)
def test_arguments_that_make_no_sense_end_with_status_2(words, capsys, more, said):
    with pytest.raises(SystemExit, match='2'):
        serve.parse_args([*words, *more])
    assert said in capsys.readouterr().err


def test_what_cannot_be_served_is_refused(web, words, tmp_path):
    (tmp_path / 'page.jpg').write_text('no picture')
    for command, said in (
        ([words[0], 'gone.pth'], 'checkpoint gone.pth: no such file'),
        ([*words, '--max-pixels', '0'], r'max_pixels must be in \[1, '),
        ([*words, '--examples', str(tmp_path)], 'page.jpg: not an image'),
        ([str(CONFIG), words[1]], 'does not belong to this config'),
    ):
        with pytest.raises(PreflightError, match=said):
            serve.main([*command, '--port', '0'])


def test_without_its_packages_it_says_what_to_install(words, monkeypatch):
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    with pytest.raises(PreflightError, match=r"serve needs uvicorn: pip install 'swin-mm\[serve\]'"):
        serve.main([*words, '--port', '0'])


def test_other_machines_reach_it_only_when_told_to_and_it_says_so(words, capsys):
    args = serve.parse_args(words)
    assert (args.host, args.max_pixels) == ('127.0.0.1', 12_500_000)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        serve._say_where(listener, args)
        assert capsys.readouterr().err == ''
        serve._say_where(listener, serve.parse_args([*words, '--host', '0.0.0.0']))
    assert 'has no login' in capsys.readouterr().err


def test_the_example_of_the_package_is_the_photograph_of_the_demo():
    assert serve.EXAMPLE.read_bytes() == (ROOT / 'demo/demo.jpg').read_bytes()
    assert np.asarray(Image.open(serve.EXAMPLE)).ndim == 3
