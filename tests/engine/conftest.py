import http.server
import threading

import pytest
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner


@pytest.fixture
def quick_runner(monkeypatch):
    """Leaves out what takes mmengine seconds a run, for runs with a name of their own.

    Others are named by the second they start in: two in one second share a log.
    """
    for runner in (Runner, FlexibleRunner):
        monkeypatch.setattr(runner, '_log_env', lambda *_: None)  # asks compilers for their versions
    monkeypatch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, True))  # lays out each config


@pytest.fixture
def url():
    """The address of a server on this machine: /405 answers 405, and so on; HEAD of anything else is fine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(int(self.path[1:4]) if self.path[1:4].isdigit() else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()
