"""Downloads from a server on this machine that breaks off, lies and refuses."""

import dataclasses
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest
import torch

from swin_mm.checkpoints import downloads, files
from swin_mm.checkpoints.downloads import address, cached, fetch
from swin_mm.checkpoints.published import OFFICIAL, Weights

STATE = {'norm.weight': torch.arange(20000.0)}


def checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


CONTENT = checkpoint()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ALMOST = SHA256[:7] + ('1' if SHA256[7] == '0' else '0')


@pytest.fixture
def server(server):
    server.content = CONTENT
    return server


def in_cache(url: str) -> list[str]:
    return sorted(path.name for path in cached(url).parent.iterdir())


def test_a_download_is_read_and_kept_for_when_there_is_no_network(server, tmp_path, monkeypatch):
    url = f'{server.url}/swin-{SHA256[:8]}.pth'
    assert torch.equal(files.read(url)['norm.weight'], STATE['norm.weight'])
    assert in_cache(url) == [f'swin-{SHA256[:8]}.pth']
    monkeypatch.setattr(downloads, '_receive', None)
    assert torch.equal(files.read(url)['norm.weight'], STATE['norm.weight'])
    assert server.asked == [None]


def test_the_cache_is_torch_hubs_unless_told(monkeypatch, tmp_path):
    monkeypatch.delenv('SWIN_MM_CACHE', raising=False)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    official = OFFICIAL[0].url
    assert cached(official) == tmp_path / 'hub/checkpoints' / os.path.basename(official)
    monkeypatch.setenv('SWIN_MM_CACHE', str(tmp_path / 'mine'))
    assert cached(official) == tmp_path / 'mine' / os.path.basename(official)


def test_files_of_one_name_are_told_apart(server):
    urls = [f'{server.url}/microsoft/swin-{size}/resolve/main/model.safetensors' for size in ('tiny', 'base')]
    assert len({fetch(url) for url in urls}) == 2
    assert len(server.asked) == 2
    assert fetch(urls[0]).parent == Path(os.environ['SWIN_MM_CACHE'])


@pytest.mark.parametrize('name', ['swin-00000000.pth', f'swin_20220317-{ALMOST}.pth', f'swin-{"0" * 64}.pth'])
def test_another_sha256_than_in_the_name_is_refused_before_the_file_is_opened(server, name, monkeypatch):
    monkeypatch.setattr(torch, 'load', None)
    with pytest.raises(ValueError, match=f'{name} has the sha256 {SHA256}, which must begin with '):
        files.read(f'{server.url}/{name}')
    assert not cached(f'{server.url}/{name}').exists()
    server.content = b''.join((CONTENT[:-1], b'x'))  # nothing is left over to resume from
    with pytest.raises(ValueError, match='sha256'):
        files.read(f'{server.url}/{name}')
    assert server.asked == [None, None]


@pytest.mark.parametrize('name', ['swin_20220317.pth', 'swin-20220317.pth', 'swin-abc.pth'])
def test_a_date_is_no_sha256(server, name):
    assert fetch(f'{server.url}/{name}').read_bytes() == CONTENT


def test_the_sha256_of_the_table_is_checked(server, monkeypatch):
    url = f'{server.url}/swin.pth'
    weights = Weights('swin', 'v1', 'classification', 'tiny', 7, 224, 'ImageNet-1K', 1000, sha256='0' * 64)
    monkeypatch.setitem(downloads.BY_URL, url, weights)
    with pytest.raises(ValueError, match='which must begin with 0000'):
        fetch(url)
    monkeypatch.setitem(downloads.BY_URL, url, dataclasses.replace(weights, sha256=SHA256))
    assert fetch(url).name == 'swin.pth'


def test_a_cached_file_that_has_changed_is_refused(server):
    url = f'{server.url}/swin-{SHA256[:8]}.pth'
    path = fetch(url)
    path.write_bytes(CONTENT[:-1] + b'x')
    with pytest.raises(ValueError, match=r'which must begin with .*: delete it'):
        fetch(url)


def test_a_download_that_breaks_off_is_resumed_at_once(server):
    server.breaks_at = [1000, 30000]
    url = f'{server.url}/swin-{SHA256[:8]}.pth'
    assert fetch(url).read_bytes() == CONTENT
    assert server.asked == [None, 'bytes=1000-', 'bytes=30000-']


def test_a_server_without_ranges_is_asked_for_the_whole(server):
    server.breaks_at, server.ranges = [1000], False
    assert fetch(f'{server.url}/swin.pth').read_bytes() == CONTENT


def test_what_has_arrived_serves_the_next_call(server):
    url = f'{server.url}/swin-{SHA256[:8]}.pth'
    server.breaks_at = [5000] * downloads.ATTEMPTS
    with pytest.raises(OSError, match='broke off 5 times, the next call goes on at byte 5000'):
        fetch(url)
    assert not cached(url).exists()
    assert len(server.asked) == downloads.ATTEMPTS
    assert fetch(url).read_bytes() == CONTENT
    assert server.asked[-1] == 'bytes=5000-'
    assert in_cache(url) == [f'swin-{SHA256[:8]}.pth']


def test_what_has_arrived_whole_is_not_asked_for_again(server):
    """The process ended between the last byte and the renaming."""
    url = f'{server.url}/swin.pth'
    part = cached(url).with_name(f'{cached(url).name}.part')
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert fetch(url).read_bytes() == CONTENT
    part.write_bytes(CONTENT + b'of another file')
    cached(url).unlink()
    assert fetch(url).read_bytes() == CONTENT


def test_a_server_that_does_not_say_how_long_is_believed(server):
    server.lengths = False
    assert fetch(f'{server.url}/swin.pth').read_bytes() == CONTENT


@pytest.mark.parametrize(
    ('content', 'kind', 'words'),
    [
        (b'<!DOCTYPE html><title>Sign in</title>', 'text/html', r'web page \(HTML\)'),
        (b'\n\n<html>rate limit</html>', 'application/octet-stream', r'web page \(HTML\)'),
        (b'{"message": "Not Found"}', 'application/json', 'no format of checkpoints'),
        (b'', 'application/octet-stream', r'empty \(0 bytes\)'),
    ],
)
def test_what_is_no_file_is_not_kept(server, content, kind, words):
    good, (server.content, server.kind) = server.content, (content, kind)
    url = f'{server.url}/swin.pth'
    with pytest.raises(ValueError, match=words) as caught:
        files.read(url)
    assert str(caught.value).startswith(url)
    assert '\n' not in str(caught.value)
    assert not cached(url).exists()
    server.content = good
    assert fetch(url).read_bytes() == CONTENT


@pytest.mark.parametrize('status', [403, 404, 500])
def test_what_the_server_refuses_is_one_line(server, status):
    server.status = status
    url = f'{server.url}/swin.pth'
    with pytest.raises(OSError, match=f'{url}: the server says {status} ') as caught:
        fetch(f'{url}?token=secret')
    assert str(cached(url)) in str(caught.value)
    assert 'secret' not in str(caught.value)


def test_silence_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(downloads, 'TIMEOUT', 0.2)
    server.delay = 1.0
    with pytest.raises(OSError, match=r'swin\.pth: .*timed out'):
        fetch(f'{server.url}/swin.pth')


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(OSError, match=r'^http://127\.0\.0\.1:1/swin\.pth: .*refused; put a copy of the file at '):
        fetch('http://127.0.0.1:1/swin.pth')


def test_many_at_once_download_once(server):
    server.delay = 0.2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fetch, [f'{server.url}/swin.pth'] * 4))
    assert {path.read_bytes() for path in found} == {CONTENT}
    assert len(server.asked) == 1
    assert in_cache(f'{server.url}/swin.pth') == [cached(f'{server.url}/swin.pth').name]


def test_a_file_is_closed_before_it_is_renamed(server, monkeypatch):
    """Windows renames no open file; it has no `fcntl` either."""
    real_open, real_replace, opened, renamed = open, os.replace, [], []

    def recorded_open(*args, **kwargs):
        opened.append(real_open(*args, **kwargs))
        return opened[-1]

    def replace_closed(source, target):
        assert all(file.closed for file in opened if file.name == str(source))
        renamed.append(source)
        real_replace(source, target)

    monkeypatch.setattr(downloads, 'fcntl', None)
    monkeypatch.setattr('builtins.open', recorded_open)
    monkeypatch.setattr(os, 'replace', replace_closed)
    target = fetch(f'{server.url}/swin.pth')
    assert renamed == [target.with_name(f'{target.name}.part')]
    assert str(renamed[0]) in {file.name for file in opened}
    assert target.read_bytes() == CONTENT


def test_encrypted_stays_encrypted():
    follow = downloads._StaysEncrypted().redirect_request
    with pytest.raises(URLError, match='redirects from https to http://b/x'):
        follow(Request('https://a/x'), None, 302, 'Found', {}, 'http://b/x?key=1')
    assert follow(Request('https://a/x'), None, 302, 'Found', {}, 'https://b/x').full_url == 'https://b/x'
    assert follow(Request('http://a/x'), None, 302, 'Found', {}, 'http://b/x').full_url == 'http://b/x'


def test_an_address_is_shown_without_secrets():
    assert address('https://me:secret@host:80/a/b.pth?key=secret#x') == 'https://host:80/a/b.pth'
    with pytest.raises(ValueError, match='must end in the name of a file'):
        cached('https://host/folder/')
