"""Writes a config for own data: ``swin-mm init`` of this clone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code of this clone, whatever is installed

from swin_mm.commands.ending import run
from swin_mm.commands.init import main

if __name__ == '__main__':
    run(main)
