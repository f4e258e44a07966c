"""What mmcv, mmengine, mmdet and mmseg need on today's PyTorch; deleted the day that they no longer do."""

import functools
from importlib.util import find_spec

from . import mmcv_ops

__all__ = ['install']


@functools.cache
def install() -> None:
    """Put every part in place, once; a second call does nothing.

    * ``mmcv_ops``: a ``mmcv._ext`` without a compiler; a native build comes first.
    * ``checkpoints``: ``torch.load(weights_only=True)`` reads what mmengine saves, and mmengine loads nothing else.
    * ``untrusted``: mmengine runs no config of a checkpoint, no tag of a YAML file and no name of a pickle.
    * ``results``: processes hand over their results where nobody else can.
    * ``packages``: ``_base_ = 'mmdet::...'`` and ``mmengine.hub`` where setuptools has no ``pkg_resources``.
    * ``mmpretrain``: beside transformers 5 it stops neither itself nor mmdet from being imported.

    Imports neither mmcv nor torchvision. Without mmengine all but the first are left out.
    """
    mmcv_ops.install()
    if find_spec('mmengine') is None:
        return
    from . import checkpoints, mmpretrain, packages, results, untrusted

    checkpoints.install()
    untrusted.install()
    results.install()
    packages.install()
    mmpretrain.install()
