"""What every request and answer passes: who may ask, and what a browser may do with the answer."""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from .refusals import body

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# The page is three scripts and a style sheet of its own; pictures are drawn from memory.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    'Content-Security-Policy': POLICY,
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store',
}


class Guard:
    """An ASGI application before another one: refuses other hosts and other sites, and adds ``HEADERS`` to each answer.

    ``hosts`` are the names that a request may call this server, None for any. A page of another site can point its
    own name at this machine (DNS rebinding): then the browser takes both for one site, and only the Host header tells.
    """

    def __init__(self, app: App, hosts: Iterable[str] | None):
        self.app = app
        self.hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes on what may pass."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return
        headers = {name.decode('latin-1'): value.decode('latin-1') for name, value in scope['headers']}

        async def guarded(message: Message) -> None:
            if message['type'] == 'http.response.start':
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, 'headers': [*message.get('headers', []), *added]}
            await send(message)

        if self.hosts is not None and host_name(headers.get('host', '')) not in self.hosts:
            names = ' or '.join(sorted(self.hosts))
            await refuse(guarded, 400, f'this server answers to the host {names} only: use that name in the address')
        elif scope['method'] == 'POST' and headers.get('sec-fetch-site') in ('cross-site', 'same-site'):
            await refuse(guarded, 403, 'a page of another site may not ask this server')
        else:
            await self.app(scope, receive, guarded)


def hosts_of(address: str) -> set[str] | None:
    """The names of a server that listens on ``address``; None for any, where other machines reach it."""
    try:
        is_local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_local = address == 'localhost'
    return {'localhost', '127.0.0.1', '[::1]', f'[{address}]' if ':' in address else address} if is_local else None


def host_name(header: str) -> str:
    """The name in a Host header, without the port."""
    name, _, port = header.rpartition(':')
    return (name if name and port.isdigit() else header).lower()


async def refuse(send: Send, status: int, sentence: str) -> None:
    """Answers with ``sentence`` in JSON."""
    headers = [(b'content-type', b'application/json')]
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': body(sentence)})
