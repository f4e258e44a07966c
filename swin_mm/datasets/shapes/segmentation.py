"""The embedded data set as MMSegmentation reads it; configs name it ``swin_mm.ShapesSegDataset``."""

from pathlib import Path

from mmseg.datasets import BaseSegDataset

from .write import CLASSES, MANIFEST, PALETTE, write_shapes


class ShapesSegDataset(BaseSegDataset):
    """The shapes and their background as semantic maps, written on first use.

    If ``data_root`` is absent or empty, the default set is written there when the images are listed. A set that is
    there is read as it is, of any size and seed. Raises FileExistsError if ``data_root`` holds anything else. Several
    ranks may start at once.
    """

    METAINFO = {'classes': ('background', *CLASSES), 'palette': [(0, 0, 0), *PALETTE]}  # noqa: RUF012  mmengine's contract

    def load_data_list(self) -> list[dict]:
        """Gives the images and their maps like `BaseSegDataset`; writes the set first if there is none."""
        if self.data_root and not (Path(self.data_root) / MANIFEST).exists():
            write_shapes(self.data_root)
        return super().load_data_list()
