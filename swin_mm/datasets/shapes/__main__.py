"""``python -m swin_mm.datasets.shapes FOLDER`` writes the embedded data set."""

from .write import main

if __name__ == '__main__':
    main()
