"""A server of files on this machine that breaks off, lies and refuses."""

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Server:
    """What it serves, and how badly: ``files`` by path, or else ``content`` at every address.

    ``asked`` has the Range of each download. It answers HEAD too, with ``headers`` in every answer.
    """

    content: bytes = b''
    url: str = ''
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = 'application/octet-stream'
    status: int = 200
    ranges: bool = True
    lengths: bool = True
    breaks_at: list[int] = field(default_factory=list)  # bytes after which it hangs up, a request each
    delay: float = 0.0
    asked: list[str | None] = field(default_factory=list)


@contextmanager
def serving(content: bytes = b'') -> Iterator[Server]:
    """Gives a `Server` that answers until the block ends."""
    served = Server(content)
    running = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _handler(served))
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    served.url = f'http://127.0.0.1:{running.server_port}'
    yield served
    running.shutdown()
    running.server_close()


def publish(server: Server, contents: dict[str, bytes], repository: str = 'me/swin', revision: str = 'main') -> None:
    """Lets ``server`` answer as the Hugging Face Hub does for files of a repository."""
    server.headers = {'X-Repo-Commit': 'c0ffee' + '0' * 34, 'X-Error-Code': 'EntryNotFound'}
    for name, content in contents.items():
        server.files[f'/{repository}/resolve/{revision}/{name}'] = content
    tree = [dict(type='file', path=name, size=len(c), oid='0' * 40) for name, c in contents.items()]
    server.files[f'/api/models/{repository}/tree/{revision}'] = json.dumps(tree).encode()


def _handler(server: Server) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            wanted = self.headers.get('Range')
            server.asked.append(wanted)
            time.sleep(server.delay)
            start = int(wanted[len('bytes=') : -1]) if wanted and server.ranges else 0
            content = self.answer(start)
            stop = server.breaks_at.pop(0) if server.breaks_at else len(content)
            with suppress(ConnectionError):  # a client that has waited long enough
                self.wfile.write(content[start:stop])

        def answer(self, start=0):
            """Sends the head of an answer from the byte ``start`` on; gives the whole content."""
            path = self.path.partition('?')[0]
            content = server.files.get(path, b'') if server.files else server.content
            whole, there = len(content), not server.files or path in server.files
            if start >= whole > 0:
                self.send_response(416)
                self.send_header('Content-Range', f'bytes */{whole}')
                self.end_headers()
                return b''
            self.send_response(206 if start else server.status if there else 404)
            if start:
                self.send_header('Content-Range', f'bytes {start}-{whole - 1}/{whole}')
            self.send_header('Content-Type', server.kind)
            self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
            for name, value in server.headers.items():
                self.send_header(name, value)
            if server.lengths:
                self.send_header('Content-Length', str(whole - start))
            self.end_headers()
            return content

        def log_message(self, *_):
            pass

    return Handler
