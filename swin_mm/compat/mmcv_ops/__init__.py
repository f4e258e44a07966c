"""A ``mmcv._ext`` made of torchvision and PyTorch, so that ``mmcv.ops`` works without a compiled mmcv.

Each op family has a file. Its functions have the names and arguments with which ``mmcv/ops/*.py`` (mmcv 2.1.0) calls
the compiled ones, and fill the same tensors in place. All run on CPU and CUDA.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FAMILIES = (
    'bbox_overlaps',
    'carafe',
    'deform_conv',
    'focal_loss',
    'info',
    'masked_conv',
    'ms_deform_attn',
    'nms',
    'roi_align',
    'soft_nms',
)


class MmcvOpsFinder(MetaPathFinder, Loader):
    """Finds and loads ``mmcv._ext``, and nothing else.

    mmengine and mmcv ask ``pkgutil.find_loader('mmcv._ext')`` whether there are ops, so the spec has a loader.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Gives the spec of ``mmcv._ext``; None for every other name."""
        return ModuleSpec(fullname, self, origin=__name__) if fullname == 'mmcv._ext' else None

    def exec_module(self, module: ModuleType) -> None:
        """Fills ``module`` with the ops of every family; torchvision is imported here and not before."""
        module.__doc__ = __doc__
        for name in FAMILIES:
            family = importlib.import_module(f'{__name__}.{name}')
            vars(module).update({op: getattr(family, op) for op in family.__all__})
        vars(module)['__getattr__'] = absent_op


FINDER = MmcvOpsFinder()


def install() -> None:
    """Offers ``mmcv._ext`` after every other finder, so that a native build wins by itself."""
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)


def absent_op(name: str) -> Callable:
    """Gives an op that raises NotImplementedError when it is called.

    ``import mmcv.ops`` demands some 90 ops that nobody calls. A private name raises AttributeError at once: with such
    names Python, pytest and others ask what a module is.
    """
    if name.startswith('_'):
        raise AttributeError(f'module mmcv._ext has no attribute {name!r}')

    def op(*args: object, **kwargs: object) -> None:
        caller = sys._getframe(1).f_globals.get('__name__')
        raise NotImplementedError(
            f'mmcv op {name}, which {caller} needs, is not among those that swin_mm provides without a compiler: '
            'to have it, replace mmcv-lite by mmcv or onedl-mmcv built from source for this PyTorch'
        )

    op.__name__ = op.__qualname__ = name
    return op
