"""The embedded data set as MMDetection reads it; configs name it ``swin_mm.ShapesDataset``."""

from pathlib import Path

from mmdet.datasets import CocoDataset

from .write import CLASSES, MANIFEST, PALETTE, write_shapes


class ShapesDataset(CocoDataset):
    """The shapes in COCO layout, written on first use.

    If ``data_root`` is absent or empty, the default set is written there when the annotations are loaded. A set that is
    there is read as it is, of any size and seed. Raises FileExistsError if ``data_root`` holds anything else. Several
    ranks may start at once.
    """

    METAINFO = {'classes': CLASSES, 'palette': PALETTE}  # noqa: RUF012  mmengine's contract

    def load_data_list(self) -> list[dict]:
        """Gives the images and their instances like `CocoDataset`; writes the set first if there is none."""
        if self.data_root and not (Path(self.data_root) / MANIFEST).exists():
            write_shapes(self.data_root)
        return super().load_data_list()
