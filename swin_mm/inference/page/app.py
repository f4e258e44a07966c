"""The application: the page and its parts, the examples, the models behind them, and how errors read."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from ..images import PictureReader
from ..predictors import Predictor
from .api import add_api
from .desk import Desk, Limits
from .guard import Guard
from .refusals import Refusal, body

STATIC = Path(__file__).parent / 'static'
TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
}
MOST_CLASSES = 256  # of a segmentor: its map is a PNG of 8 bits


def make_app(
    models: Mapping[str, Predictor], limits: Limits, hosts: Iterable[str] | None, examples: Sequence[bytes]
) -> Guard:
    """Gives the ASGI application of ``models``, by name; the first is the one that is meant if none is named.

    ``hosts`` are as for a `Guard`. ``examples`` are JPEGs. Raises ValueError for a model that the page cannot show.
    """
    for name, model in models.items():
        _check_model(name, model)
    desk = Desk(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    # The pages of FastAPI's own documentation would come from a CDN.
    app = FastAPI(title='swin-mm', version='1', lifespan=lifespan, docs_url=None, redoc_url=None)
    _answer_in_sentences(app)
    _add_page(app, examples)
    add_api(app, models, desk, len(examples))
    return Guard(app, hosts)


def _check_model(name: str, model: Predictor) -> None:
    if not isinstance(model.reader, PictureReader):
        raise ValueError(f'{name} must read pictures to be served, got a model that reads bands')
    if model.scope == 'mmseg' and len(model.classes) > MOST_CLASSES:
        raise ValueError(f'{name} must have at most {MOST_CLASSES} classes to be served, got {len(model.classes)}')


def _add_page(app: FastAPI, examples: Sequence[bytes]) -> None:
    """Serves the files of the page and the examples from memory: no path of a request meets the disk."""
    for path in STATIC.iterdir():
        if path.suffix in TYPES:
            route = '/' if path.name == 'index.html' else f'/{path.name}'
            file = Response(path.read_bytes(), media_type=TYPES[path.suffix])
            app.add_api_route(route, partial(_constant, file), include_in_schema=False)
    for number, picture in enumerate(examples):
        file = Response(picture, media_type='image/jpeg')
        app.add_api_route(f'/examples/{number}', partial(_constant, file), include_in_schema=False)


async def _constant(response: Response) -> Response:
    return response


def _answer_in_sentences(app: FastAPI) -> None:
    """Every error is ``{"error": SENTENCE}``."""

    def sentence(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
        return Response(body(text), status, headers, 'application/json')

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return sentence(error.status, error.sentence, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return sentence(400, f'{first["loc"][-1]}: {first["msg"]}, got {first["input"]}')

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return sentence(error.status_code, f'{request.method} {request.url.path}: {error.detail}', error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return sentence(500, 'the server met an error of its own, which its log has')
