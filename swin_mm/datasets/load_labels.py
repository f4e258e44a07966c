"""Loads label maps of semantic segmentation, and refuses files from which mmseg would train on wrong labels."""

from io import BytesIO

import numpy as np
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image, ImageFile

IGNORED = 255
FOUND = {'I': '16 bits', 'I;16': '16 bits', 'F': 'fractions', 'RGB': 'colours', 'RGBA': 'colours', 'LA': 'transparency'}


class LoadLabels(LoadAnnotations):
    """mmseg's ``LoadAnnotations``, which takes only label files with one class index per pixel.

    mmseg itself turns 16 bits into 8, so that class 256 becomes 0. It takes a label outside the classes, or a map of
    another size, as far as the loss, which fails without the name of the file. Results without ``seg_map_path`` pass
    unchanged: they are an image alone.

    Args:
        num_classes: Number of classes of the data set, without the ignored one (255); no default, so nobody forgets it.
        reduce_zero_label: As in mmseg; None means what the data set says.
        backend_args: Storage backend of the label files; None means local files.

    Raises:
        ValueError: A file is no 8-bit class map or not as large as its image, or a label is outside the classes.
        FileNotFoundError: There is no label file.
    """

    def __init__(self, num_classes: int, reduce_zero_label: bool | None = None, backend_args: dict | None = None):
        if not 1 <= num_classes <= IGNORED:
            raise ValueError(f'num_classes must be in [1, {IGNORED}], got num_classes={num_classes}')
        super().__init__(reduce_zero_label=reduce_zero_label, backend_args=backend_args)
        self.num_classes = num_classes

    def transform(self, results: dict) -> dict:
        """Adds ``gt_seg_map`` (H, W), uint8, to ``results``, at the size of the file even if the image is resized."""
        return super().transform(results) if results.get('seg_map_path') else results

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        try:
            with Image.open(BytesIO(fileio.get(path, backend_args=self.backend_args))) as image:
                check_kind(image, path)
                # Against the original size: a test pipeline loads labels after it has resized the image.
                check_size(image, path, results)
            super()._load_seg_map(results)
        except FileNotFoundError as error:
            raise FileNotFoundError(f'label file {path} of {results.get("img_path")} is not there') from error
        except OSError as error:
            raise ValueError(f'label file {path} cannot be read as a picture: {error}') from error
        self._check_values(results)

    def _check_values(self, results: dict) -> None:
        labels = results['gt_seg_map']
        wrong = np.unique(labels[(labels >= self.num_classes) & (labels != IGNORED)])
        if wrong.size:
            lowered = ' once 1 is taken off (reduce_zero_label)' if self.reduce_zero_label else ''
            more = ', ...' if wrong.size > 10 else ''
            raise ValueError(
                f'labels must be in [0, num_classes) or {IGNORED} (ignored){lowered}, got num_classes='
                f'{self.num_classes} and {", ".join(map(str, wrong[:10]))}{more} in {results["seg_map_path"]}'
            )

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, num_classes={self.num_classes})'


def check_kind(image: ImageFile.ImageFile, path: str) -> None:
    """Raises ValueError unless the pixels of ``image`` (opened, not yet decoded) are class indices."""
    packed = str(image.tile[0][3]) if image.tile else image.mode  # the pixels of the file, before Pillow unpacks them
    if image.mode not in ('1', 'L', 'P'):
        found = f'{FOUND.get(image.mode, "something else")} (mode {image.mode})'
    elif 'transparency' in image.info:
        found = f'transparency (mode {image.mode})'
    elif image.format == 'JPEG':
        found = 'JPEG, which alters values'
    elif packed in ('L;2', 'L;4'):
        found = f'{packed[-1]} bits of grey, which are read as shares of 255'
    else:
        return
    raise ValueError(
        f'a label file must hold one class index a pixel, as an 8-bit PNG of grey values or palette entries, got '
        f'{found} in {path}'
    )


def check_size(image: Image.Image, path: str, results: dict) -> None:
    height, width = results.get('ori_shape', image.size[::-1])[:2]
    if image.size != (width, height):
        raise ValueError(
            f'a label file must be as large as its picture, got {image.height} x {image.width} (height x width) in '
            f'{path} and {height} x {width} in {results.get("img_path")}'
        )
