"""What image_demo.py writes for an image: the picture with the result drawn in, and the result as files."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swin_mm.inference import Detections, Detector, Segmentation, Segmentor


class Writer:
    """Writes the drawn images and the predictions of a detector that ``args`` ask for."""

    def __init__(self, args: argparse.Namespace, detector: Detector):
        from mmdet.visualization import DetLocalVisualizer
        from mmdet.visualization.palette import get_palette

        palette = detector.dataset_meta['palette'] if args.palette in (None, 'none') else args.palette
        try:
            get_palette(palette, len(detector.classes))
        except AssertionError:
            raise ValueError(
                f'--palette {args.palette} has fewer colours than {len(detector.classes)} classes'
            ) from None
        self.args = args
        self.visualizer = DetLocalVisualizer()
        self.visualizer.dataset_meta = {'classes': detector.classes, 'palette': palette}

    def write(self, name: str, image: np.ndarray, found: Any) -> Iterator[Path]:
        """The files written for an ``image`` (height, width, 3) in BGR."""
        out = Path(self.args.out_dir)
        drawn = None if self.args.no_save_vis else out / 'vis' / f'{name}.jpg'
        if drawn or self.args.show:
            self.visualizer.add_datasample(
                name,
                np.ascontiguousarray(image[..., ::-1]),  # mmseg has OpenCV write into an array of this layout
                found.sample,
                draw_gt=False,
                show=self.args.show,
                out_file=drawn and str(drawn),
                **self.drawing(),
            )
        if drawn:
            yield drawn
        if self.args.print_result:
            print(json.dumps(self.to_json(found)))
        if not self.args.no_save_pred:
            yield from self.save(out / 'preds' / name, found)

    def drawing(self) -> dict[str, Any]:
        """The arguments of the visualiser that only this task has."""
        return {'pred_score_thr': 0.3 if self.args.pred_score_thr is None else self.args.pred_score_thr}

    def save(self, stem: Path, found: Any) -> Iterator[Path]:
        """The files of predictions written; their names begin with ``stem``."""
        path = Path(f'{stem}.json')
        path.write_text(json.dumps(self.to_json(found)))
        yield path

    def to_json(self, found: Detections) -> dict[str, Any]:
        """The layout that mmdet's ``DetInferencer`` writes, and ``label_names``; masks as COCO run-length encodings."""
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
        return result


class SegmentationWriter(Writer):
    """The same for a segmentor: an overlay, a PNG of class indices and the classes' shares of the picture."""

    def __init__(self, args: argparse.Namespace, segmentor: Segmentor):
        from mmseg.visualization import SegLocalVisualizer

        classes, palette = segmentor.classes, segmentor.dataset_meta['palette']
        if palette == 'random':
            palette = np.random.default_rng(0).integers(256, size=(len(classes), 3)).tolist()
        if len(palette) < len(classes):
            raise ValueError(
                f'palette must have a colour for each class, got {len(palette)} for {len(classes)} classes'
            )
        opacity = 0.5 if args.opacity is None else args.opacity
        self.args = args
        self.index = {name: i for i, name in enumerate(classes)}
        self.dtype = np.uint8 if len(classes) <= 256 else np.uint16
        self.visualizer = SegLocalVisualizer(alpha=opacity)
        # Names and colours given to the constructor change places, and Cityscapes' stand in for missing ones.
        self.visualizer.dataset_meta = {'classes': classes, 'palette': palette}

    def drawing(self) -> dict[str, Any]:
        """The arguments of the visualiser that only this task has."""
        return {'with_labels': bool(self.args.with_labels)}

    def save(self, stem: Path, found: Segmentation) -> Iterator[Path]:
        """The files of predictions written; their names begin with ``stem``."""
        path = Path(f'{stem}.png')
        Image.fromarray(found.labels.astype(self.dtype)).save(path)
        yield path
        yield from super().save(stem, found)

    def to_json(self, found: Segmentation) -> dict[str, Any]:
        """``shares`` of the picture by class name, the largest first, and ``labels``: the names' indices in the PNG."""
        return {'shares': found.shares, 'labels': {name: self.index[name] for name in found.shares}}
