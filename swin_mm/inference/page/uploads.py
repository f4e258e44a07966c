"""The image in the body of a request, in memory only."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from .desk import Limits
from .refusals import Refusal


async def receive_image(request: Request, limits: Limits) -> bytes:
    """Gives the body; raises Refusal if it is none, too large, too slow or a form."""
    kind = request.headers.get('content-type', '').partition(';')[0]
    if kind.startswith('multipart/') or kind == 'application/json':
        raise Refusal(
            415, f'the body must be the picture itself, got {kind}: send it as `curl --data-binary @FILE` does'
        )
    announced = request.headers.get('content-length', '')
    if announced.isdigit() and int(announced) > limits.max_bytes:
        raise _too_large(limits)
    try:
        data = await asyncio.wait_for(_read(request, limits), limits.upload_seconds)
    except asyncio.TimeoutError:
        raise Refusal(408, f'the picture did not arrive within {limits.upload_seconds:g} seconds') from None
    except ClientDisconnect:
        raise Refusal(400, 'the connection ended before the picture had arrived') from None
    if not data:
        raise Refusal(422, 'the body must be a picture, got nothing: send it as `curl --data-binary @FILE` does')
    return data


async def sender_gone(request: Request) -> None:
    """Ends when the sender has closed the connection; the body must have been read."""
    while (await request.receive())['type'] != 'http.disconnect':
        pass


async def _read(request: Request, limits: Limits) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limits.max_bytes:
            raise _too_large(limits)
    return bytes(data)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f'the file must have at most {limits.max_bytes / 1e6:g} MB: scale the picture down')
