"""Lets anybody's config inherit from our recipes: ``_base_ = 'swin_mm::mask_rcnn_swin_t.py'``.

By itself mmengine 0.10.7 (``Config._get_cfg_path``) wants a slash in the name, and the package in a table of its own.
"""

from mmengine.config import Config

PREFIX = 'swin_mm::'


def install() -> None:
    """Makes mmengine find our recipes by their prefix ``swin_mm::``."""
    get_cfg_path = Config._get_cfg_path

    def find_base(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith(PREFIX):
            return get_cfg_path(cfg_path, filename)
        from ..recipes import find_config, recipes_folder  # late: it may be what imported mmengine

        # The scope is None, because a recipe names its own. mmengine would add any other to every type.
        return str(find_config(recipes_folder() / cfg_path.removeprefix(PREFIX))), None

    Config._get_cfg_path = staticmethod(find_base)
