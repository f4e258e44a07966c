"""``swin-mm doctor``: what is installed, what works, what is wrong and what to do."""

import argparse
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status, 1 if something is wrong."""
    from ..doctor.__main__ import main as report

    argparse.ArgumentParser(description='Report what is installed, what works and what is wrong').parse_args(argv)
    return report()
