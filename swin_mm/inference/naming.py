"""What the name of a model means: a config, and the weights that go with it."""

import os
from pathlib import Path

from mmengine.config import Config

from ..checkpoints.published import BY_RECIPE
from ..errors import PreflightError
from ..recipes import find_config, recipe_of, short_name
from .packed import is_packed, read_packed


def named_model(
    config: str | os.PathLike | Config, checkpoint: str | os.PathLike | None = None
) -> tuple[Config, str | os.PathLike]:
    """Gives the config that ``config`` names, and ``checkpoint``; for None the weights that go with the name.

    A recipe has its `published_weights`, a packed model its own: see `read_packed`. Raises PreflightError if there is
    no such config, or no checkpoint; other errors are those of `read_packed`.
    """
    if not isinstance(config, Config) and is_packed(config):
        cfg, weights = read_packed(config)
        return cfg, weights if checkpoint is None else checkpoint
    cfg = config if isinstance(config, Config) else Config.fromfile(find_config(config))
    return cfg, published_weights(cfg.filename or 'CONFIG') if checkpoint is None else checkpoint


def published_weights(config: str | os.PathLike) -> str:
    """Gives the address of the weights that were published for the recipe of the path ``config``.

    Raises PreflightError, which says what to do, if it is no recipe of ours, or one without such weights.
    """
    recipe = recipe_of(config)
    if recipe is not None and recipe.stem in BY_RECIPE:
        return BY_RECIPE[recipe.stem].url
    name = short_name(recipe or Path(config))
    raise PreflightError(
        f'no weights are published for {name}: name a checkpoint, or train one with `swin-mm train {name}`. They are '
        f'for {", ".join(BY_RECIPE)}'
    )
