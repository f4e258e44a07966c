"""The embedded data set as MMDetection reads it; configs name it ``swin_mm.ShapesDataset``."""

from pathlib import Path
from typing import ClassVar

from mmdet.datasets import CocoDataset

from . import heat
from .write import CLASSES, MANIFEST, PALETTE, write_shapes


class ShapesDataset(CocoDataset):
    """The shapes in COCO layout, written on first use.

    If ``data_root`` is absent or empty, the default set is written there when the annotations are loaded. A set that is
    there is read as it is, of any size and seed. Raises FileExistsError if ``data_root`` holds anything else. Several
    ranks may start at once.
    """

    METAINFO = {'classes': CLASSES, 'palette': PALETTE}  # noqa: RUF012  mmengine's contract
    DEFAULTS: ClassVar[dict] = {}  # of the set that is written

    def load_data_list(self) -> list[dict]:
        """Gives the images and their instances like `CocoDataset`; writes the set first if there is none."""
        if self.data_root and not (Path(self.data_root) / MANIFEST).exists():
            write_shapes(self.data_root, **self.DEFAULTS)
        return super().load_data_list()


class HeatShapesDataset(ShapesDataset):
    """The shapes with a fourth band, heat, which alone tells the two classes apart; `ShapesDataset` says the rest."""

    METAINFO = {'classes': heat.CLASSES, 'palette': heat.PALETTE}  # noqa: RUF012  mmengine's contract
    DEFAULTS: ClassVar[dict] = {'train': 300, 'heat': True}
