"""Downloads files once: resumed where a download broke off, verified before anything opens them.

They lie in the folder SWIN_MM_CACHE, or else in torch.hub's, and need no network from then on. Proxies are set as for
urllib: ``https_proxy`` and the like.
"""

import hashlib
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import torch

from .formats import format_of
from .published import BY_URL
from .whole_file import put_in_place

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # Windows has none

TIMEOUT = 30  # seconds without an answer
ATTEMPTS = 5
CHUNK = 1 << 20  # bytes
# The first digits of the sha256 at the end of a name, as torch.hub and OpenMMLab have it; eight digits may be a date.
NAMED_HASH = re.compile(r'-(?!20\d{6}\.)([0-9a-f]{8,64})\.\w+$')


def is_url(source: str | os.PathLike) -> bool:
    """Whether ``source`` is to be downloaded."""
    return os.fspath(source).startswith(('http://', 'https://'))


def cached(url: str) -> Path:
    """Gives the place of ``url`` in the cache, whether or not it is downloaded.

    A published file, or one with a hash in its name, keeps its name, as in torch.hub. Any other is named by its whole
    address, since many files are called ``model.safetensors``.
    """
    folder = os.environ.get('SWIN_MM_CACHE') or os.path.join(torch.hub.get_dir(), 'checkpoints')
    parts = urlsplit(url)
    name = os.path.basename(parts.path)
    if not name:
        raise ValueError(f'{address(url)} must end in the name of a file')
    if url not in BY_URL and not NAMED_HASH.search(name):
        name = re.sub(r'[^\w.-]+', '-', f'{parts.hostname}{parts.path}')[-200:]
    return Path(folder).expanduser() / name


def address(url: str) -> str:
    """Writes ``url`` without its query and password, which may be secret."""
    parts = urlsplit(url)
    return f'{parts.scheme}://{parts.netloc.rpartition("@")[2]}{parts.path}'


def fetch(url: str) -> Path:
    """Gives the file of ``url``, downloaded if it is not in the cache.

    Raises ValueError if its sha256 is not the publisher's or the server sent a web page instead, OSError if it cannot
    be had. After an error nothing is in the cache under its name.
    """
    target = cached(url)
    try:
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(url, target)
        elif reason := _differs(url, target):
            raise ValueError(f'{target} {reason}: delete it, and {address(url)} is downloaded again')
    except (URLError, HTTPException, OSError) as error:
        cause = getattr(error, 'reason', None) or error
        raise OSError(f'{address(url)}: {cause}; put a copy of the file at {target}') from error
    return target


def _download(url: str, target: Path) -> None:
    part = target.with_name(f'{target.name}.part')
    with _only_one(part):
        if target.is_file():  # another process has been at it
            part.unlink(missing_ok=True)
            return
        print(f'downloading {address(url)} to {target}', file=sys.stderr)
        with open(part, 'ab') as file:
            for _ in range(ATTEMPTS):
                if _receive(url, file):
                    break
            else:
                raise OSError(f'the connection broke off {ATTEMPTS} times, the next call goes on at byte {file.tell()}')
        try:
            format_of(part)
            if reason := _differs(url, part):
                raise ValueError(reason)
        except ValueError as error:
            os.truncate(part, 0)  # not removed: others may wait for it
            raise ValueError(f'{address(url)} {error}') from None
        put_in_place(part, target)  # closed by now, for Windows renames no open file


def _receive(url: str, file: BinaryIO) -> bool:
    """Asks once for the bytes that ``file`` lacks; returns whether it is whole now."""
    start = file.seek(0, os.SEEK_END)
    headers = {'User-Agent': 'swin_mm', **({'Range': f'bytes={start}-'} if start else {})}
    opener = urllib.request.build_opener(_StaysEncrypted)
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code != 416:
                raise OSError(f'the server says {error.code} {error.reason}') from error
            if whole := _whole(error.headers) == start:
                return whole
            file.truncate(0)  # longer than the file at the server
            return False
    with response:
        if response.status == 206:
            size = _whole(response.headers)
        else:
            file.truncate(0)
            size = int(response.headers.get('Content-Length') or -1)
        try:
            while chunk := response.read(CHUNK):
                file.write(chunk)
        except (HTTPException, ConnectionError, TimeoutError):
            return False
    return size in (-1, file.seek(0, os.SEEK_END))


def _whole(headers: Message) -> int:
    """The size of the file at the server, in bytes, from ``Content-Range: bytes 3-7/8``; -1 if it does not say."""
    size = headers.get('Content-Range', '').rpartition('/')[2]
    return int(size) if size.isdigit() else -1


class _StaysEncrypted(urllib.request.HTTPRedirectHandler):
    """Follows a redirection, but not from https to a connection that others can change."""

    def redirect_request(self, request, file, code, message, headers, url):
        if request.full_url.startswith('https:') and not url.startswith('https:'):
            raise URLError(f'the server redirects from https to {address(url)}, where anybody could change the file')
        return super().redirect_request(request, file, code, message, headers, url)


@contextmanager
def _only_one(part: Path) -> Iterator[None]:
    """Waits until no other process of this machine downloads into ``part``; at the end the next one may."""
    if fcntl is None:
        yield
        return
    with open(part, 'ab') as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _differs(url: str, path: Path) -> str | None:
    """Says how the sha256 of ``path`` differs from the publisher's; None if it does not, or if none is published."""
    weights, named = BY_URL.get(url), NAMED_HASH.search(urlsplit(url).path)
    wanted = (weights and weights.sha256) or (named and named[1])
    if not wanted:
        return None
    found = sha256(path)
    return None if found.startswith(wanted) else f'has the sha256 {found}, which must begin with {wanted}'


def sha256(path: Path) -> str:
    """Gives the sha256 of a file, 64 digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
