"""Writes a report: each check ends as ok, as WRONG with what to do, or as not here, and the other checks still run."""

import contextlib
import getpass
import io
import os
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from swin_mm.errors import one_line

COLUMNS, NAME, VERDICT = 120, 18, 10
REPORT_IT = 'put right what is WRONG above; if nothing is, open an issue with this report'


class AbsentError(Exception):
    """Says that the subject of a check is not on this machine, and need not be."""


class WrongError(Exception):
    """Says what is wrong; ``advice`` says what to do about it."""

    def __init__(self, what: str, advice: str):
        super().__init__(what)
        self.advice = advice


@dataclass(frozen=True)
class Check:
    """A check: ``run`` returns the details if all is well, or raises AbsentError, WrongError or any other error.

    ``advice`` says what to do about any other error.
    """

    name: str
    run: Callable[[], str]
    advice: str = REPORT_IT


def write_report(checks: Iterable[Check]) -> list[str]:
    """Prints the results of ``checks`` and returns the names of those that found something wrong.

    A name is printed before its check runs. If a check ends the whole process, as a broken native library does, the
    report ends with the name of that check.
    """
    wrong = []
    for check in checks:
        print(f'{check.name:<{NAME}}', end='', flush=True)
        verdict, detail = _verdict(check)
        if verdict == 'WRONG':
            wrong.append(check.name)
        lines = textwrap.wrap(private(detail), COLUMNS - NAME - VERDICT, break_long_words=False, break_on_hyphens=False)
        print(f'{verdict:<{VERDICT}}{lines[0] if lines else ""}'.rstrip(), flush=True)
        for line in lines[1:]:
            print(' ' * (NAME + VERDICT) + line)
    return wrong


def private(text: str) -> str:
    """Replaces the folders of this machine and the name of its user in ``text``."""
    package = Path(__file__).parents[2]
    folders = {str(package): '<root>', sys.prefix: '<python>', sys.base_prefix: '<python>'}
    with contextlib.suppress(OSError, RuntimeError):
        folders |= {tempfile.gettempdir(): '<temp>', os.getcwd(): '<here>', str(Path.home()): '~'}
    for folder in sorted(folders, key=len, reverse=True):
        if len(folder) > 1:
            text = re.sub(rf'{re.escape(folder)}(?![\w-])', folders[folder], text)
    with contextlib.suppress(Exception):  # a container's user may have no name
        text = re.sub(rf'(?<=[/\\]){re.escape(getpass.getuser())}(?=[/\\])', 'USER', text)
    return text


def _verdict(check: Check) -> tuple[str, str]:
    """Gives the verdict on a check and its details, and drops what libraries print and warn on the way."""
    try:
        silent = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            warnings.simplefilter('ignore')
            return 'ok', check.run()
    except AbsentError as absent:
        return 'not here', str(absent)
    except WrongError as wrong:
        return 'WRONG', f'{wrong}. To do: {wrong.advice}'
    except (Exception, SystemExit) as error:
        return 'WRONG', f'{_describe_error(error)}. To do: {check.advice}'


def _describe_error(error: BaseException) -> str:
    """Gives the type and the message of an error, and the module and line that raised it."""
    message = one_line(error)[:400].rstrip('.')
    trace = error.__traceback__
    if trace is None:
        return f'{type(error).__name__}: {message}'
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get('__name__', '')
    return f'{type(error).__name__}: {message} ({module}, line {trace.tb_lineno})'
