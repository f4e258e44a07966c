"""``_base_ = 'swin_mm::mask_rcnn_swin_t.py'`` in anybody's config.

mmengine 0.10.7 (``Config._get_cfg_path``) wants a slash in the name and the package in a table of its own.
"""

from mmengine.config import Config

from ..recipes import find_config, recipes_folder

PREFIX = 'swin_mm::'


def install() -> None:
    """Lets mmengine find our recipes by this prefix."""
    get_cfg_path = Config._get_cfg_path

    def find_base(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith(PREFIX):
            return get_cfg_path(cfg_path, filename)
        # A scope, which mmengine would add to every type, is None: a recipe says its own.
        return str(find_config(recipes_folder() / cfg_path.removeprefix(PREFIX))), None

    Config._get_cfg_path = staticmethod(find_base)
