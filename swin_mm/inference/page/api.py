"""What programs ask, and the page too: ``GET /models`` and ``POST /predict``."""

import io
import json
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from ..images import PictureReader
from ..predictors import NamedImage, Predictor
from . import answers, schemas
from .desk import Desk
from .refusals import Refusal
from .uploads import receive_image, sender_gone

log = logging.getLogger(__name__)

NAME = 'the picture'  # in errors: the sender's own name for it is never asked
REASONS = {
    400: 'a request that is not understood',
    403: 'a page of another site',
    404: 'no such model',
    408: 'the picture came too slowly',
    413: 'too many bytes',
    415: 'a form, not a picture',
    422: 'no picture, or one that cannot be read',
    500: 'the model fails on this picture',
    503: 'the queue is full: see Retry-After',
    504: 'no result in time',
}
PREDICT: dict[str, Any] = dict(
    summary='What a model finds in a picture',
    response_class=Response,
    responses={
        200: {'model': schemas.Prediction},
        **{status: {'model': schemas.Error, 'description': text} for status, text in REASONS.items()},
    },
    openapi_extra={
        'requestBody': {
            'required': True,
            'description': 'The bytes of a picture: JPEG, PNG, WebP, TIFF, BMP, GIF or PPM.',
            'content': {'image/*': {'schema': {'type': 'string', 'format': 'binary'}}},
        }
    },
)


def add_api(app: FastAPI, models: Mapping[str, Predictor], desk: Desk, examples: int) -> None:
    """Adds both addresses; a request that names no model means the first."""
    limits = desk.limits
    offer = schemas.Offer(
        models=[schemas.Model(**answers.describe(name, model)) for name, model in models.items()],
        examples=examples,
        max_bytes=limits.max_bytes,
        max_pixels=min(model.max_pixels for model in models.values()),
    )

    @app.get('/models', summary='The models, their classes and the limits')
    async def offered() -> schemas.Offer:
        return offer

    @app.post('/predict', **PREDICT)
    async def predict(
        request: Request,
        model: str | None = Query(None, description='its name; without one, the first of /models'),
        score: float = Query(0, ge=0, le=1, description='detection: objects with this score or more'),
        preview: bool = Query(False, description='send the picture back as a JPEG, for formats no browser shows'),
    ) -> Response:
        name = next(iter(models)) if model is None else model
        if name not in models:
            raise Refusal(404, f'model must be one of {", ".join(models)}, got {name}')
        with desk.place():
            data = await receive_image(request, limits)
            work = partial(answer, name, models[name], data, score, preview)
            return Response(await desk.run(work, sender_gone(request)), media_type='application/json')


def answer(name: str, model: Predictor, data: bytes, score: float, preview: bool) -> bytes:
    """Gives the JSON of what ``model`` finds in the picture ``data``; raises Refusal if it has no result."""
    start = time.perf_counter()
    try:
        assert isinstance(model.reader, PictureReader)  # make_app refuses others
        pixels = model.reader.decode(io.BytesIO(data), NAME, model.max_pixels)
    except (ValueError, OSError) as error:
        raise Refusal(422, str(error)) from error
    height, width = pixels.shape[:2]
    try:
        [found] = model(NamedImage(NAME, pixels))
    except RuntimeError as error:  # its words are the libraries', with paths of this machine
        log.warning('%s: %s', name, error)
        raise Refusal(500, f'{name} fails on a picture of {width}x{height} pixels: try another size') from None
    content = dict(model=name, width=width, height=height, **answers.to_json(found, score))
    if preview:
        content['preview'] = answers.preview(model.reader.to_rgb(pixels))
    content['seconds'] = round(time.perf_counter() - start, 3)
    return json.dumps(content).encode()
