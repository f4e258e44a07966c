"""What is found in an image: plain arrays, and what people do with them next."""

import functools
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from . import conversions
from .drawing import OPACITY, SCORE, Palette, class_colours, draw_objects, draw_regions
from .origin import Origin


class FoundObject(NamedTuple):
    """One of `Detections`: ``box`` (4,), ``mask`` (height, width) or None; the rest as there."""

    box: np.ndarray
    score: float
    label: int
    name: str
    mask: np.ndarray | None


class FoundClass(NamedTuple):
    """One class of a `Segmentation`: ``share`` of the pixels, and ``mask`` (height, width), true where it is."""

    name: str
    label: int
    share: float
    mask: np.ndarray


@dataclass(frozen=True)
class Panoptic:
    """The segment that each pixel of an image belongs to: an object, or all that is of a class such as sky.

    ``segments`` (height, width) int64: indices of the S segments, -1 where none was found. ``labels`` (S,): indices of
    the detector's classes. ``names``: their names. ``ids`` (S,): mmdet's numbers, the label plus 1000 times the number
    of the object, which counts from 1; 0 times for what is no object.
    """

    segments: np.ndarray
    labels: np.ndarray
    names: list[str]
    ids: np.ndarray


@dataclass(frozen=True)
class Detections:
    """The N objects found in an image, best first; ``len`` counts them, a loop gives a `FoundObject` for each.

    ``boxes`` (N, 4) as (x1, y1, x2, y2) in pixels of the image. ``scores`` (N,): probabilities. ``labels`` (N,):
    indices of the detector's classes. ``names``: their names. ``masks`` (N, height, width): booleans, None for a model
    that finds boxes only. ``panoptic``: the segments of the whole image, None for a model that finds objects only; one
    that gives nothing else has N=0.
    ``sample``: mmdet's own result, with all objects also after `filter`. ``tracks`` (N,): the numbers that objects keep
    over a video, from 1, and 0 for an object without one; None outside a video.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: np.ndarray | None
    panoptic: Panoptic | None
    sample: Any
    origin: Origin = field(default_factory=Origin)
    tracks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[FoundObject]:
        masks = [None] * len(self) if self.masks is None else self.masks
        for box, score, label, name, mask in zip(self.boxes, self.scores, self.labels, self.names, masks, strict=True):
            yield FoundObject(box, float(score), int(label), name, mask)

    def filter(self, score: float = 0.0, classes: Iterable[str | int] | str | int | None = None) -> 'Detections':
        """The objects with this ``score`` or more, and of these ``classes``, names or indices; a panoptic map stays.

        Raises ValueError, with the nearest name, for a class that the model does not have.
        """
        kept = self.scores >= score
        if classes is not None:
            kept &= np.isin(self.labels, self.origin.indices(classes))
        return replace(
            self,
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            labels=self.labels[kept],
            names=[name for name, keep in zip(self.names, kept, strict=True) if keep],
            masks=None if self.masks is None else self.masks[kept],
            tracks=None if self.tracks is None else self.tracks[kept],
        )

    def to_supervision(self) -> Any:
        """A ``supervision.Detections``, names in ``data['class_name']``; raises ModuleNotFoundError without it."""
        return conversions.to_supervision(self.boxes, self.masks, self.labels, self.names, self.scores)

    def to_coco(self, image_id: int, category_ids: Mapping[int, int] | Sequence[int] | None = None) -> list[dict]:
        """The objects as COCO's results format has them, masks as run lengths.

        ``category_ids``: the id of each class, by its index; None: the index plus 1.
        """
        records = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            category = conversions.category_id(int(self.labels[i]), category_ids)
            record = dict(image_id=image_id, category_id=category, bbox=[x1, y1, x2 - x1, y2 - y1])
            record['score'] = float(self.scores[i])
            if self.masks is not None:
                record['segmentation'] = self.run_lengths[i]
            records.append(record)
        return records

    @functools.cached_property
    def run_lengths(self) -> list[dict[str, Any]]:
        """COCO's run-length encodings of the masks, counted once for all who write them; [] without masks."""
        return [] if self.masks is None else conversions.run_lengths(self.masks)

    def plot(self, image: np.ndarray | None = None, *, score: float = SCORE, palette: Palette = None) -> np.ndarray:
        """Draws the objects that have this ``score`` or more, and the segments: uint8 (height, width, 3) in RGB.

        ``image`` is an array as the model takes it, in BGR, such as the pixels that `Predictor.stream` gives. A result
        holds no pixels, so that a stream's memory stays flat; it remembers its file, which is read again for None.
        ``palette`` None: the model's colours; others are as for `class_colours`. Raises ValueError for None if the
        result is of an array, OSError if its file is gone.
        """
        drawn, shown = self.origin.rgb(image), self.filter(score)
        number = max(len(self.origin.classes), *(self.labels + 1), 1)
        colours = class_colours(self.origin.palette if palette is None else palette, number)
        if (panoptic := self.panoptic) is not None and len(panoptic.labels):
            drawn = draw_regions(drawn, panoptic.segments, panoptic.names, colours[panoptic.labels])
        texts = [f'{name}: {100 * value:.1f}' for name, value in zip(shown.names, shown.scores, strict=True)]
        if shown.tracks is not None:
            texts = [f'#{track} {text}' if track else text for track, text in zip(shown.tracks, texts, strict=True)]
        return draw_objects(drawn, shown.boxes, shown.masks, texts, colours[shown.labels])

    def _repr_png_(self) -> bytes | None:
        return _png(self)


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of an image; ``len`` counts the classes found, a loop gives a `FoundClass` for each.

    ``labels`` (height, width) int64: indices of the segmentor's classes, after `filter` -1 for others. ``shares``: the
    part of the pixels that each class has, the largest first; they sum to 1. ``sample``: mmseg's own result, without
    the logits, which with 150 classes are 600 bytes a pixel.
    """

    labels: np.ndarray
    shares: dict[str, float]
    sample: Any
    origin: Origin = field(default_factory=Origin)

    def __len__(self) -> int:
        return len(self.shares)

    def __iter__(self) -> Iterator[FoundClass]:
        for name, label in zip(self.shares, self.origin.indices(self.shares), strict=True):
            yield FoundClass(name, label, self.shares[name], self.labels == label)

    def filter(self, classes: Iterable[str | int] | str | int) -> 'Segmentation':
        """The pixels of these ``classes``, names or indices; labels of others become -1. Pixels have no scores.

        Raises ValueError, with the nearest name, for a class that the model does not have.
        """
        kept = self.origin.indices(classes)
        shares = {name: share for name, share in self.shares.items() if self.origin.indices(name)[0] in kept}
        return replace(self, labels=np.where(np.isin(self.labels, kept), self.labels, -1), shares=shares)

    def to_supervision(self) -> Any:
        """A ``supervision.Detections`` with one mask a class; raises ModuleNotFoundError without supervision."""
        found = list(self)
        masks = np.array([one.mask for one in found]).reshape(-1, *self.labels.shape)
        labels = np.array([one.label for one in found], int)
        return conversions.to_supervision(None, masks, labels, [one.name for one in found], None)

    def to_coco(self, image_id: int, category_ids: Mapping[int, int] | Sequence[int] | None = None) -> list[dict]:
        """A mask a class, as COCO's format of results for stuff has it; ids are as for `Detections`."""
        return [
            dict(
                image_id=image_id,
                category_id=conversions.category_id(one.label, category_ids),
                segmentation=conversions.run_lengths(one.mask[None])[0],
            )
            for one in self
        ]

    def plot(
        self,
        image: np.ndarray | None = None,
        *,
        opacity: float = OPACITY,
        with_labels: bool = False,
        palette: Palette = None,
    ) -> np.ndarray:
        """Lays the colours of the classes over the image, and their names if ``with_labels``: uint8 RGB as it is.

        ``image`` and ``palette`` are as for `Detections.plot`.
        """
        number = max(len(self.origin.classes), int(self.labels.max()) + 1, 1)
        colours = class_colours(self.origin.palette if palette is None else palette, number)
        texts = [name if with_labels else '' for name in self.origin.classes] or [''] * number
        return draw_regions(self.origin.rgb(image), self.labels, texts, colours, opacity)

    def _repr_png_(self) -> bytes | None:
        return _png(self)


def _png(found: Detections | Segmentation) -> bytes | None:
    """The drawn image for a notebook; None, which shows the arrays, if there is no file to draw on."""
    path = found.origin.path
    if path is None or not os.path.isfile(path):
        return None
    data = io.BytesIO()
    Image.fromarray(found.plot()).save(data, 'PNG')
    return data.getvalue()
