"""Results as files: the image with the result drawn into it, and the result as JSON and PNG."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import PreflightError
from .predictors import Detector, Predictor, Segmentor
from .results import Detections, Segmentation

SCORE = 0.3
OPACITY = 0.5


def check_display() -> None:
    """Raises PreflightError where no window can open: mmengine would wait for a key press in one forever."""
    from matplotlib import pyplot

    if pyplot.get_backend().lower() == 'agg':  # what matplotlib falls back to
        raise PreflightError('--show needs a display and a GUI toolkit for matplotlib, found none: have files written')


class Writer(ABC):
    """Writes what is found in images into ``folder``; a sink of `Predictor.stream`.

    ``draw``: images with the result go to ``vis/``. ``save``: predictions go to ``preds/``. ``show``: each drawn image
    is shown in a window. ``print_result``: each prediction is printed as JSON.
    """

    visualizer: Any  # of mmdet or mmseg

    def __init__(
        self,
        model: Predictor,
        folder: str | Path,
        *,
        draw: bool = True,
        save: bool = True,
        show: bool = False,
        print_result: bool = False,
    ):
        self.to_rgb = model.reader.to_rgb
        self.folder, self.draw, self.save, self.show, self.print_result = Path(folder), draw, save, show, print_result

    def write(self, name: str, image: np.ndarray, found: Any) -> Iterator[Path]:
        """Yields the files written for an ``image`` as `Predictor.read` gives it; their names begin with ``name``."""
        drawn = self.folder / 'vis' / f'{name}.jpg' if self.draw else None
        if drawn or self.show:
            self.visualizer.add_datasample(
                name,
                np.ascontiguousarray(self.to_rgb(image)),  # mmseg has OpenCV write into an array of this layout
                self.drawable(found),
                draw_gt=False,
                show=self.show,
                out_file=drawn and str(drawn),
                **self.drawing_options(),
            )
        if drawn:
            yield drawn
        if self.print_result:
            print(json.dumps(self.to_json(found)))
        if self.save:
            yield from self.save_prediction(self.folder / 'preds' / name, found)

    def save_prediction(self, stem: Path, found: Any) -> Iterator[Path]:
        """Yields the files of predictions written; their names begin with ``stem``."""
        yield self.write_json(stem, self.to_json(found))

    def write_json(self, stem: Path, content: dict[str, Any]) -> Path:
        """Writes ``content`` to ``stem`` with .json at its end, which it returns."""
        path = Path(f'{stem}.json')
        path.write_text(json.dumps(content))
        return path

    def drawable(self, found: Any) -> Any:
        """The sample that the visualiser draws."""
        return found.sample

    @abstractmethod
    def drawing_options(self) -> dict[str, Any]:
        """The arguments of the visualiser that only this task has."""

    @abstractmethod
    def to_json(self, found: Any) -> dict[str, Any]:
        """The prediction as JSON has it."""


class DetectionWriter(Writer):
    """Writes boxes, masks and segments; draws those with a score from ``score`` on, in the colours of ``palette``.

    ``palette`` None takes the colours of the detector's data set, 'coco', 'voc', 'citys' and 'random' others. Raises
    ValueError for a palette with too few colours. The other arguments are those of `Writer`.
    """

    def __init__(
        self,
        detector: Detector,
        folder: str | Path,
        *,
        score: float = SCORE,
        palette: str | None = None,
        **options: bool,
    ):
        from mmdet.visualization import DetLocalVisualizer
        from mmdet.visualization.palette import get_palette

        super().__init__(detector, folder, **options)
        colours = palette or detector.dataset_meta['palette']
        try:
            get_palette(colours, len(detector.classes))
        except AssertionError:
            number, given = len(detector.classes), palette or "the data set's own"
            raise ValueError(f'palette must have a colour for each of {number} classes, got {given}') from None
        self.score = score
        self.visualizer = DetLocalVisualizer()
        self.visualizer.dataset_meta = {'classes': detector.classes, 'palette': colours}

    def drawing_options(self) -> dict[str, Any]:
        """The score to draw from."""
        return {'pred_score_thr': self.score}

    def drawable(self, found: Detections) -> Any:
        """The sample without a panoptic map in which nothing was found, where mmdet 3.3's visualiser fails."""
        if found.panoptic is None or len(found.panoptic.labels):
            return found.sample
        sample = found.sample.clone()
        del sample.pred_panoptic_seg
        return sample

    def save_prediction(self, stem: Path, found: Detections) -> Iterator[Path]:
        """Yields the files of predictions written: segments as a PNG, its colours as panopticapi has them."""
        content = self.to_json(found)
        if found.panoptic is not None:
            path = Path(f'{stem}_panoptic_seg.png')
            numbers = np.append(found.panoptic.ids, 0)[found.panoptic.segments]  # the last, 0, where nothing was found
            colours = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1)
            Image.fromarray(colours.astype(np.uint8)).save(path)
            yield path
            content['panoptic_seg_path'] = str(path)
        yield self.write_json(stem, content)

    def to_json(self, found: Detections) -> dict[str, Any]:
        """The layout that mmdet's ``DetInferencer`` writes, and names; masks as COCO run-length encodings.

        ``segments_info`` has the number of each segment in the PNG, as COCO's panoptic format has it, and its class.
        """
        from mmdet.structures.mask import encode_mask_results

        result: dict[str, Any] = dict(
            labels=found.labels.tolist(),
            label_names=found.names,
            scores=found.scores.tolist(),
            bboxes=found.boxes.tolist(),
        )
        if found.masks is not None:
            codes = encode_mask_results(found.masks)
            result['masks'] = [{**code, 'counts': code['counts'].decode()} for code in codes]
        if (panoptic := found.panoptic) is not None:
            numbered = zip(panoptic.ids.tolist(), panoptic.labels.tolist(), panoptic.names, strict=True)
            result['segments_info'] = [dict(id=i, label=label, label_name=name) for i, label, name in numbered]
        return result


class SegmentationWriter(Writer):
    """Writes an overlay, a PNG of class indices and the classes' shares of the image.

    ``opacity`` of the class colours is in (0, 1]. ``with_labels`` writes class names into the overlay. Raises
    ValueError if there are fewer colours than classes. The other arguments are those of `Writer`.
    """

    def __init__(
        self,
        segmentor: Segmentor,
        folder: str | Path,
        *,
        opacity: float = OPACITY,
        with_labels: bool = False,
        **options: bool,
    ):
        from mmseg.visualization import SegLocalVisualizer

        super().__init__(segmentor, folder, **options)
        classes, palette = segmentor.classes, segmentor.dataset_meta['palette']
        if palette == 'random':
            palette = np.random.default_rng(0).integers(256, size=(len(classes), 3)).tolist()
        if len(palette) < len(classes):
            raise ValueError(
                f'palette must have a colour for each class, got {len(palette)} for {len(classes)} classes'
            )
        self.with_labels = with_labels
        self.index = {name: i for i, name in enumerate(classes)}
        self.dtype = np.uint8 if len(classes) <= 256 else np.uint16
        self.visualizer = SegLocalVisualizer(alpha=opacity)
        # Names and colours given to the constructor change places, and Cityscapes' stand in for missing ones.
        self.visualizer.dataset_meta = {'classes': classes, 'palette': palette}

    def drawing_options(self) -> dict[str, Any]:
        """Whether class names are drawn."""
        return {'with_labels': self.with_labels}

    def save_prediction(self, stem: Path, found: Segmentation) -> Iterator[Path]:
        """Yields the files of predictions written; their names begin with ``stem``."""
        path = Path(f'{stem}.png')
        Image.fromarray(found.labels.astype(self.dtype)).save(path)
        yield path
        yield from super().save_prediction(stem, found)

    def to_json(self, found: Segmentation) -> dict[str, Any]:
        """``shares`` of the image by class name, the largest first, and ``labels``: the names' indices in the PNG."""
        return {'shares': found.shares, 'labels': {name: self.index[name] for name in found.shares}}
