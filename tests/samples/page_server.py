"""The page's application behind a real uvicorn on a free port, in a thread, and plain requests to it."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

HOST = '127.0.0.1'


class Answer(NamedTuple):
    """A whole answer: status, headers with small names, and the JSON or the bytes."""

    status: int
    headers: dict[str, str]
    content: Any


class Server(NamedTuple):
    """A server that runs."""

    port: int

    @property
    def url(self) -> str:
        """The address of the page."""
        return f'http://{HOST}:{self.port}/'

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Sends a request and reads the answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        named = {name.lower(): value for name, value in response.getheaders()}
        is_json = named.get('content-type', '').startswith('application/json')
        return Answer(response.status, named, json.loads(content) if is_json else content)

    def predict(self, picture: bytes, query: str = '', **headers: str) -> Answer:
        """Posts a picture."""
        return self.ask('POST', f'/predict{query}', picture, headers)


@contextmanager
def serving(
    models: dict[str, Any], examples: tuple[bytes, ...] = (), any_host: bool = False, **limits: Any
) -> Iterator[Server]:
    """Serves ``models`` with ``Limits(**limits)``; skips where FastAPI is not installed."""
    pytest.importorskip('fastapi', reason='FastAPI is not installed: pip install swin-mm[serve]')
    uvicorn = pytest.importorskip('uvicorn', reason='uvicorn is not installed: pip install swin-mm[serve]')
    from swin_mm.inference.page.app import make_app
    from swin_mm.inference.page.desk import Limits
    from swin_mm.inference.page.guard import hosts_of

    app = make_app(models, Limits(**limits), None if any_host else hosts_of(HOST), examples)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level='error', access_log=False, ws='none', timeout_graceful_shutdown=1)
    )
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield Server(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)
