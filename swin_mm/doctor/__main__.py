"""Runs as ``python -m swin_mm.doctor``, or as ``python swin_mm/doctor`` where ``import swin_mm`` fails."""

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

TIME = 300  # seconds; some thirty times as long as a report takes


def main() -> int:
    """Prints the report, and returns the exit status: 1 if something is wrong."""
    from swin_mm.doctor import install, machine, work
    from swin_mm.doctor.report import write_report

    watch = threading.Timer(TIME, _give_up)
    watch.daemon = True
    watch.start()
    wrong = write_report([*install.checks(), *machine.checks(), *work.checks()])
    watch.cancel()
    print(f'\n{len(wrong)} WRONG: {", ".join(wrong)}' if wrong else '\nNothing is wrong.')
    return 1 if wrong else 0


def _give_up() -> None:
    """Ends the report when a check does not end, for example because a driver hangs."""
    os.write(1, f'WRONG     still not finished after {TIME} s. To do: open an issue with this report\n'.encode())
    os._exit(1)


def _make_modules_importable() -> None:
    """Puts a stand-in in the place of ``swin_mm`` if it cannot be imported, so that its modules can.

    This is the case where PyTorch is missing, for example.
    """
    root = Path(__file__).resolve().parents[2]
    sys.path[0] = str(root)
    try:
        import swin_mm  # noqa: F401
    except Exception:
        package = ModuleType('swin_mm')
        package.__path__ = [str(root / 'swin_mm')]
        sys.modules['swin_mm'] = package


if __name__ == '__main__':
    if not __package__:
        _make_modules_importable()
    sys.exit(main())
