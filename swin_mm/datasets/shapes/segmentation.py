"""The embedded data set as MMSegmentation reads it; configs name it ``swin_mm.ShapesSegDataset``."""

from pathlib import Path

from mmseg.datasets import BaseSegDataset

from .write import CLASSES, MANIFEST, PALETTE, write_shapes


class ShapesSegDataset(BaseSegDataset):
    """Shapes and the background as semantic maps; a free ``data_root`` gets the default set written when it is loaded.

    A set that is there is read as it is, of any size and seed. Raises FileExistsError if ``data_root`` holds anything
    else. Several ranks may start at once.
    """

    METAINFO = {'classes': ('background', *CLASSES), 'palette': [(0, 0, 0), *PALETTE]}  # noqa: RUF012  mmengine's contract

    def load_data_list(self) -> list[dict]:
        """The pictures and their maps, as `BaseSegDataset` gives them; writes the set first if there is none."""
        if self.data_root and not (Path(self.data_root) / MANIFEST).exists():
            write_shapes(self.data_root)
        return super().load_data_list()
