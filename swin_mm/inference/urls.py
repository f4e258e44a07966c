"""Gets images from web servers, within limits of size and time."""

import time
import urllib.request
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import quote

from ..checkpoints.downloads import address
from ..errors import megabytes

MAX_BYTES = 100_000_000
TIMEOUT = 10  # seconds without an answer
LONGEST = 60  # seconds in all
CHUNK = 1 << 16  # bytes
KEPT = "%/:=&?~#+!$,;'@()*[]"  # of an address; other characters, such as umlauts, are escaped


def received(url: str) -> bytes:
    """Gives what the server of ``url`` sends; keeps no copy.

    Raises ValueError if it is larger than 100 MB, OSError if it cannot be had whole in 60 seconds, each with the
    address and the reason.
    """
    try:
        with urllib.request.urlopen(_request(url), timeout=TIMEOUT) as response:
            data = _read(response, time.monotonic() + LONGEST)
    except HTTPError as error:
        with error:
            raise OSError(f'{address(url)}: the server says {error.code} {error.reason}') from None
    except (OSError, HTTPException) as error:
        cause = getattr(error, 'reason', None) or error or type(error).__name__
        raise OSError(f'{address(url)}: {cause}') from error
    except ValueError as error:
        raise ValueError(f'{address(url)}: {error}') from None
    return data


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(quote(url, safe=KEPT), headers={'User-Agent': 'swin_mm'})


def _read(response, deadline: float) -> bytes:
    """Reads an answer in pieces: a server that sends a byte now and then never runs into the timeout of a read."""
    length = response.headers.get('Content-Length') or ''
    size = int(length) if length.isdigit() else None
    data = bytearray()
    while True:
        if max(size or 0, len(data)) > MAX_BYTES:
            raise ValueError(f'the file must have at most {megabytes(MAX_BYTES)}: download it, and give its path')
        if time.monotonic() > deadline:
            raise TimeoutError(f'not whole after {LONGEST} seconds')
        chunk = response.read1(CHUNK)
        if not chunk:
            break
        data += chunk
    if size is not None and len(data) != size:
        raise OSError(f'the connection broke off after {len(data)} of {size} bytes')
    return bytes(data)
