"""Where a result comes from: its image and the names and colours of its model."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import shortlist
from .drawing import Palette
from .images import MAX_PIXELS, PictureReader, Reader


@dataclass(frozen=True)
class Origin:
    """What a result knows of its image and its model; it holds neither pixels nor weights.

    ``path``: the file that was read, None for an array. ``reader`` and ``max_pixels``: how the model reads a file.
    ``classes`` and ``palette``: of the model.
    """

    path: str | None = None
    reader: Reader = field(default_factory=PictureReader)
    max_pixels: int = MAX_PIXELS
    classes: Sequence[str] = ()
    palette: Palette = 'random'

    def rgb(self, image: np.ndarray | None) -> np.ndarray:
        """``image``, or that of the file, in RGB; raises ValueError if there is none, OSError if the file is gone."""
        if image is None:
            if self.path is None:
                raise ValueError('plot needs the image of a result that was not read from a file: plot(image)')
            image = self.reader.read(self.path, self.max_pixels)
        return self.reader.to_rgb(self.reader.check(image, 'image'))

    def indices(self, classes: Iterable[str | int] | str | int) -> list[int]:
        """The indices of classes given by name or index; raises ValueError, with the nearest name, for others."""
        wanted = [classes] if isinstance(classes, str | int) else list(classes)
        names = list(self.classes)
        for one in wanted:
            if one not in names and not (isinstance(one, int | np.integer) and 0 <= one < len(names)):
                near = difflib.get_close_matches(one, names, 1) if isinstance(one, str) else []
                hint = f'did you mean {near[0]!r}?' if near else f'they are {shortlist(names, 10)}'
                raise ValueError(f'classes must be names or indices of the {len(names)} classes, got {one!r}: {hint}')
        return [names.index(one) if isinstance(one, str) else int(one) for one in wanted]
