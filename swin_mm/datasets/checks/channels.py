"""Compares the channels that are loaded with those that the preprocessor and the backbone take."""

from collections.abc import Iterator, Sequence

from mmengine.config import Config

from ...recipes import image_channels, settings_within, type_name
from .findings import Findings

COLOURS = {'color': 3, 'color_ignore_orientation': 3, 'grayscale': 1, 'grayscale_ignore_orientation': 1}


def check_channels(cfg: Config, loops: Sequence[str], found: Findings) -> None:
    """Adds an error if they differ; loading steps whose channels depend on the file are left out."""
    counts = {key: count for loop in loops for key, count in _loaded(cfg, loop)}
    if not counts or not (cfg.get('model') or {}).get('backbone'):
        return
    counts |= dict(_means(cfg.model))
    counts['model.backbone.in_channels'] = image_channels(cfg.model)
    if len(set(counts.values())) > 1:
        sentence = 'images must have one number of channels where they are loaded, normalised and fed to the backbone'
        found.data = 'config'
        found.add('error', 'channels', sentence, (f'{key}: {count}' for key, count in counts.items()), len(counts))


def _loaded(cfg: Config, loop: str) -> Iterator[tuple[str, int]]:
    """Yields (loading step, channels) for the images of a loop."""
    dataset = (cfg.get(f'{loop}_dataloader') or {}).get('dataset') or {}
    for key, step in settings_within(dataset, f'{loop}_dataloader.dataset'):
        kind = type_name(step)
        if kind == 'LoadBands':
            yield f'{key}.bands (LoadBands)', len(step.get('bands') or ())
        elif kind in ('LoadImage', 'LoadImageFromFile') and not step.get('loader'):
            colours = COLOURS.get(step.get('color_type', 'color'))
            if colours and step.get('imdecode_backend') != 'tifffile':
                yield f'{key}.color_type ({kind})', colours


def _means(model: dict) -> Iterator[tuple[str, int]]:
    """Yields (preprocessor, its number of means); one mean of mmdet's or mmseg's own serves any number of channels."""
    for key, part in settings_within(model, 'model'):
        means = part.get('mean') if key.endswith('data_preprocessor') else None
        if means and (len(means) > 1 or str(part.get('type')).startswith('swin_mm.')):
            yield f'{key}.mean', len(means)
