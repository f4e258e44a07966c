"""A Chromium without a window, driven through its DevTools protocol over two pipes: no driver, no further package."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

WAIT = 60  # seconds; machines that run tests are busy
MODIFIERS = {'Shift': 8, 'Control': 2}


class Browser:
    """One page in a Chromium with an empty profile in ``folder``; downloads go to ``folder / 'downloads'``."""

    def __init__(self, folder: Path):
        program = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
        if program is None:
            pytest.skip('there is no Chromium on this machine: the page is not looked at')
        self.downloads = folder / 'downloads'
        self.console: list[str] = []
        self._number, self._rest = 0, b''
        from_us, self._out = os.pipe()
        self._in, to_us = os.pipe()
        flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run']
        flags += ['--remote-debugging-pipe', '--disable-background-networking', f'--user-data-dir={folder / "profile"}']
        # The shell gives the pipes the numbers that Chromium expects; dash knows no number above 9.
        shell = ['bash', '-c', f'exec "$@" 3<&{from_us} 4>&{to_us}', 'bash']
        self._process = subprocess.Popen(
            [*shell, program, *flags, 'about:blank'],
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        self._session: str | None = None
        pages = self.call('Target.getTargets')['targetInfos']
        page = next(target['targetId'] for target in pages if target['type'] == 'page')
        self._session = self.call('Target.attachToTarget', targetId=page, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'DOM'):
            self.call(f'{domain}.enable')
        self.call('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(self.downloads))

    def __enter__(self) -> 'Browser':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)  # at which Chromium ends
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol; what the page says meanwhile goes to ``console``."""
        self._number += 1
        message: dict[str, Any] = dict(id=self._number, method=method, params=parameters)
        if self._session and not method.startswith(('Target.', 'Browser.')):
            message['sessionId'] = self._session
        os.write(self._out, json.dumps(message).encode() + b'\0')
        while (answer := self._receive()).get('id') != self._number:
            self._note(answer)
        if 'error' in answer:
            raise RuntimeError(f'{method}: {answer["error"]["message"]}')
        return answer['result']

    def open(self, address: str, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Opens ``address`` in a window of that size, as a phone if it is narrow."""
        is_phone = width < 500
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )
        scheme = dict(name='prefers-color-scheme', value='dark' if dark else 'light')
        self.call('Emulation.setEmulatedMedia', features=[scheme])
        self.call('Page.navigate', url=address)
        self.wait('document.readyState === "complete"')

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        done = self.call('Runtime.evaluate', expression=script, awaitPromise=True, returnByValue=True)
        if 'exceptionDetails' in done:
            raise RuntimeError(f'{script}: {done["exceptionDetails"]["exception"].get("description")}')
        return done['result'].get('value')

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + WAIT
        while not self.run(condition):
            if time.monotonic() > end:
                raise TimeoutError(f'{condition} is not true; the page said {self.console}')
            time.sleep(0.05)

    def choose_file(self, selector: str, path: Path) -> None:
        """Puts a file into an input as a person does."""
        root = self.call('DOM.getDocument')['root']['nodeId']
        node = self.call('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self.call('DOM.setFileInputFiles', nodeId=node, files=[str(path)])

    def move(self, x: float, y: float) -> None:
        """Moves the mouse there, in pixels of the window."""
        self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def click(self, selector: str) -> None:
        """Scrolls to an element and clicks on its middle."""
        where = f'document.querySelector({json.dumps(selector)})'
        self.run(f'{where}.scrollIntoView({{block: "center"}})')
        x, y = self.run(
            f'(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({where}.getBoundingClientRect())'
        )
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def press(self, key: str, code: int, modifier: str | None = None) -> None:
        """Presses a key, by its name and number."""
        options = dict(key=key, code=key, windowsVirtualKeyCode=code, modifiers=MODIFIERS.get(modifier or '', 0))
        if key == 'Enter':
            options['text'] = '\r'
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, **options)

    def screenshot(self, path: Path, **options: Any) -> None:
        """Writes what is on the page, as a PNG or with ``format='jpeg'``."""
        path.write_bytes(base64.b64decode(self.call('Page.captureScreenshot', **options)['data']))

    def downloaded(self, suffix: str) -> Path:
        """The whole file that a click had downloaded."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            if found := [path for path in self.downloads.glob(f'*{suffix}') if path.stat().st_size]:
                return found[0]
            time.sleep(0.05)
        raise TimeoutError(f'no {suffix} was downloaded')

    def _receive(self) -> dict[str, Any]:
        while b'\0' not in self._rest:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError('Chromium has ended')
            self._rest += part
        message, _, self._rest = self._rest.partition(b'\0')
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        if event['method'] == 'Log.entryAdded' and event['params']['entry']['level'] == 'error':
            entry = event['params']['entry']
            self.console.append(f'{entry["text"]} {entry.get("url", "")}')
        elif event['method'] == 'Runtime.exceptionThrown':
            self.console.append(str(event['params']['exceptionDetails']))
