"""Serves a web page that shows what trained models find in pictures; the same process answers programs in JSON.

swin-mm serve mask_rcnn_swin_t                 # with the weights that were published for the recipe
swin-mm serve mask_rcnn_swin_t CHECKPOINT --model scenes=upernet_swin_t,CHECKPOINT --examples pictures
"""

import argparse
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import PreflightError
from ..inference import Detector, Segmentor
from ..inference.images import PictureReader, check_max_pixels
from ..inference.naming import named_model
from ..inference.page.answers import jpeg
from ..inference.page.desk import Limits
from ..inference.page.guard import hosts_of
from ..inference.sources import find_images
from . import launch
from .ending import INTERRUPTED, program

MAX_PIXELS = 12_500_000  # a phone's picture; the masks of 100 objects then take 1.2 GB
MOST_EXAMPLES = 12
EXAMPLE = Path(__file__).parents[1] / 'inference/page/static/example.jpg'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with ``models``: (config, checkpoint) by name; exits with status 2 if it makes no sense."""
    parser = argparse.ArgumentParser(description='Serve a web page that shows what trained models find in pictures.')
    parser.add_argument('config', metavar='MODEL', help=f'{launch.CONFIG_HELP}, or a packed model')
    parser.add_argument(
        'weights',
        metavar='WEIGHTS',
        nargs='?',
        help='checkpoint file, URL or hf://OWNER/NAME; default: those of the name',
    )
    launch.add_cache(parser)
    parser.add_argument(
        '--model',
        action='append',
        default=[],
        metavar='NAME=MODEL[,WEIGHTS]',
        help='one more model to choose, under this name; may be given several times',
    )
    parser.add_argument('--examples', nargs='+', metavar='PICTURE', help='to click on: files, folders or patterns')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; default: this machine only')
    parser.add_argument('--port', type=int, default=8000, help='default: 8000; 0 takes a free one')
    _add_limits(parser)
    args = parser.parse_args(argv)
    args.models = {Path(args.config.rstrip('/')).stem: (args.config, args.weights)}
    for text in args.model:
        name, _, rest = text.partition('=')
        config, comma, weights = rest.partition(',')
        if not (name and config) or (comma and not weights):
            parser.error(f'--model must be NAME=MODEL or NAME=MODEL,WEIGHTS, got {text}')
        if name in args.models:
            parser.error(f'--model must have a name of its own, got {name} twice')
        args.models[name] = config, weights or None
    for flag, least in (('max_megabytes', 0.001), ('max_seconds', 0.001), ('queue', 0), ('port', 0)):
        if getattr(args, flag) < least:
            parser.error(f'--{flag.replace("_", "-")} must be at least {least}, got {getattr(args, flag)}')
    return args


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', help='default: the GPU if there is one')
    parser.add_argument(
        '--max-pixels',
        type=int,
        default=MAX_PIXELS,
        help=f'of a picture; default: {MAX_PIXELS}, a phone has 12 million',
    )
    parser.add_argument('--max-megabytes', type=float, default=20, help='of a file; default: 20')
    parser.add_argument('--max-seconds', type=float, default=120, help='of waiting for a result; default: 120')
    parser.add_argument('--queue', type=int, default=16, help='pictures that may wait for the model; default: 16')


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C; raises PreflightError if a model, an example or the address cannot be used."""
    args = parse_args(argv)
    try:
        check_max_pixels(args.max_pixels)
        listener = _listen(args.host, args.port)
        server = _make_server(args)
    except ModuleNotFoundError as error:
        if error.name not in ('fastapi', 'uvicorn'):
            raise
        raise PreflightError(f"serve needs {error.name}: pip install 'swin-mm[serve]'") from error
    except (OSError, ValueError) as error:
        raise PreflightError(str(error)) from error
    _say_where(listener, args)
    try:
        server.run([listener])
    except KeyboardInterrupt:  # what uvicorn raises when everybody has been answered
        return INTERRUPTED
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Takes the address at once: it may be taken, and models take a while to load."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise PreflightError(f'--host {host} --port {port} cannot be listened on: {error}: name another') from error


def _make_server(args: argparse.Namespace) -> Any:
    """Loads the models and gives the server of uvicorn."""
    import uvicorn

    from ..inference.page.app import make_app

    models = {name: _load(config, weights, args) for name, (config, weights) in args.models.items()}
    limits = Limits(int(args.max_megabytes * 1e6), args.max_seconds, args.queue)
    app = make_app(models, limits, hosts_of(args.host), _examples(args.examples))
    return uvicorn.Server(
        uvicorn.Config(
            app, log_level='warning', access_log=False, server_header=False, timeout_graceful_shutdown=5, ws='none'
        )
    )


def _load(name: str, weights: str | None, args: argparse.Namespace) -> Detector | Segmentor:
    cfg, checkpoint = named_model(name, weights)
    task = Segmentor if cfg.get('default_scope') == 'mmseg' else Detector
    return task(cfg, checkpoint, args.device, args.max_pixels)


def _examples(inputs: Sequence[str] | None) -> list[bytes]:
    reader = PictureReader()
    paths = find_images(inputs)[:MOST_EXAMPLES] if inputs else [EXAMPLE]
    return [jpeg(reader.to_rgb(reader.read(path))) for path in paths]


def _say_where(listener: socket.socket, args: argparse.Namespace) -> None:
    host, port = listener.getsockname()[:2]
    if hosts_of(args.host) is None:
        print(f'{program()}: whoever reaches {host} can use this page, which has no login', file=sys.stderr)
    shown = f'[{host}]' if ':' in host else host
    print(f'http://{shown}:{port} shows {", ".join(args.models)}; Ctrl-C ends it', flush=True)
