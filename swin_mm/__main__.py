"""``swin-mm COMMAND``, or ``python -m swin_mm COMMAND``. Imports late, so that help and refusals come at once."""

import difflib
import importlib
import sys
from collections.abc import Sequence

from . import __version__
from .commands import COMMANDS

PROGRAM, MODULE = 'swin-mm', 'python -m swin_mm'
HELP = ('-h', '--help', 'help')


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that ``argv`` names (None: the command line); exits with status 2 if there is none."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        sys.exit(_refuse(f'a command is missing\n\n{usage()}'))
    name = words[0]
    if name in HELP:
        print(usage())
    elif name == '--version':
        print(f'{PROGRAM} {__version__}')
    elif name in COMMANDS:
        _run(name, words[1:])
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f'did you mean {near[0]}?' if near else f'it must be one of {", ".join(COMMANDS)}'
        sys.exit(_refuse(f'there is no command {name}: {advice}'))


def usage() -> str:
    """Writes what ``--help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f'  {name:<{width}}  {text}' for name, text in COMMANDS.items()]
    return '\n'.join(
        [
            f'usage: {PROGRAM} COMMAND [arguments]',
            '',
            'Swin Transformer for MMDetection and MMSegmentation.',
            '',
            *lines,
            '',
            f'`{PROGRAM} COMMAND --help` lists the arguments of a command. A config is a file or the name of a recipe:',
            f'  {PROGRAM} train mask_rcnn_swin_t --cfg-options data_root=/path/to/coco/',
        ]
    )


def _run(name: str, words: list[str]) -> None:
    from .commands.ending import run

    # Messages, and the line that goes on with a stopped run, name the program as it was started.
    started = MODULE if sys.argv[0].endswith('__main__.py') else PROGRAM
    sys.argv = [f'{started} {name}', *words]
    run(lambda: importlib.import_module(f'swin_mm.commands.{name}').main())


def _refuse(reason: str) -> int:
    print(f'{PROGRAM}: {reason}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    main()
