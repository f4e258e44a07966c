"""Registries of scope ``swin_mm``, children of mmengine's: configs say ``type='swin_mm.SwinTransformer'``.

mmengine imports a module of exactly this name when a config uses the scope.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

SCOPE = 'swin_mm'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=['swin_mm.backbone', 'swin_mm.tta'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope=SCOPE, locations=['swin_mm.datasets'])
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope=SCOPE,
    locations=[
        f'swin_mm.engine.{name}'
        for name in ('failures', 'finite', 'pictures', 'resuming', 'saving', 'signals', 'weights')
    ],
)
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope=SCOPE, locations=['swin_mm.datasets'])
