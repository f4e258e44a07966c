"""The models and parts that mmdet lacks. Importing this package registers them.

Those that stand on mmdet are imported when one of them is built, so that segmentation runs without it.
"""

from importlib import import_module
from typing import Any

from ..registry import MODELS
from .instance_tta import InstanceTTAModel

__all__ = ['InstanceTTAModel']

FILES = {
    'BiFPN': 'bifpn',
    'ForegroundFocalLoss': 'point_losses',
    'InclusiveGIoULoss': 'point_losses',
    'MaskRepPointsV2Head': 'mask_reppoints_v2_head',
    'RepPointsV2Head': 'reppoints_v2_head',
}


def _register(name: str, file: str) -> None:
    def build(**config: Any) -> Any:
        return getattr(import_module(f'.{file}', __name__), name)(**config)

    MODELS.register_module(name=name, module=build)


for _name, _file in FILES.items():
    _register(_name, _file)
