"""Writes the embedded data set: ``python -m swin_mm.datasets.shapes FOLDER``."""

from .write import main

if __name__ == '__main__':
    main()
