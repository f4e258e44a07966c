"""``import swin_mm`` imports nothing, and mmengine is patched whoever imports it, before or after."""

import pytest

PATCHED = (
    'from mmengine.runner import checkpoint; from mmengine.config import Config;'
    'print(type(checkpoint.torch).__name__, Config._get_cfg_path.__name__)'
)


def test_importing_swin_mm_imports_neither_pytorch_nor_openmmlab(run_python):
    heavy = ('torch', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmseg')
    assert run_python(f'import sys, swin_mm; print([m for m in {heavy} if m in sys.modules])').split() == ['[]']


ORDERS = ['import swin_mm, mmengine', 'import mmengine, swin_mm', 'import swin_mm, mmdet', 'from swin_mm import *']


@pytest.mark.parametrize('imports', ORDERS)
def test_mmengine_is_patched_in_any_order_of_imports(run_python, imports):
    assert run_python(f'{imports}; {PATCHED}').split()[-2:] == ['_WeightsOnlyTorch', 'find_base']


def test_an_mmengine_that_cannot_be_imported_says_so_itself(run_python, tmp_path):
    (tmp_path / 'site' / 'mmengine').mkdir(parents=True)
    (tmp_path / 'site' / 'mmengine' / '__init__.py').write_text('raise ImportError("half installed")')
    code = 'import swin_mm\ntry: import mmengine\nexcept ImportError as error: print(error)'
    assert run_python(code, tmp_path / 'site').strip() == 'half installed'


def test_names_that_are_not_there_are_refused(run_python):
    code = 'import swin_mm\ntry: swin_mm.SwinTransformer3\nexcept AttributeError as error: print(error)'
    assert run_python(code).strip() == "module 'swin_mm' has no attribute 'SwinTransformer3'"


def test_who_only_asks_for_mmengine_does_not_spend_the_patch(run_python):
    asked = 'import swin_mm, importlib.util; importlib.util.find_spec("mmengine")'
    assert run_python(f'{asked}; {PATCHED}').split() == ['_WeightsOnlyTorch', 'find_base']


def test_an_import_that_succeeds_at_the_second_time_is_patched(run_python, tmp_path):
    (tmp_path / 'site' / 'addict').mkdir(parents=True)
    (tmp_path / 'site' / 'addict' / '__init__.py').write_text('raise ImportError("not yet")')
    code = 'import sys, swin_mm\ntry: import mmengine\nexcept ImportError: sys.path.pop(0 if sys.path[0] else 1)\n'
    code += 'sys.path = [p for p in sys.path if not p.endswith("site")]; sys.modules.pop("addict", None)\n'
    code += 'import importlib; importlib.invalidate_caches()\n' + PATCHED
    assert run_python(code, tmp_path / 'site').split() == ['_WeightsOnlyTorch', 'find_base']


def test_another_finder_may_have_mmengine(run_python):
    """As an editable install or a frozen program does."""
    finder = (
        'import sys, swin_mm; from importlib.machinery import PathFinder\n'
        'class Other:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        '        return REAL(name, path, target) if name == "mmengine" else None\n'
        'REAL = PathFinder.find_spec\n'
        'PathFinder.find_spec = lambda name, path=None, target=None: None if name == "mmengine" else '
        'REAL(name, path, target)\n'
        'sys.meta_path.append(Other())\n'
    )
    assert run_python(finder + PATCHED).split() == ['_WeightsOnlyTorch', 'find_base']


ROOMS = [
    'backbone',
    'benchmark',
    'checkpoints',
    'checkpoints.load',
    'commands.launch',
    'compat',
    'datasets',
    'detectors',
]
ROOMS += ['doctor', 'engine', 'errors', 'inference', 'kernels', 'recipes', 'registry']


def test_every_room_can_be_imported_first(run_python):
    """A circle that only shows at run time: mmengine, once imported, imports what patches it."""
    code = 'import subprocess, sys\n'
    code += f'runs = [subprocess.Popen([sys.executable, "-c", "import swin_mm." + r]) for r in {ROOMS[0::2]}]\n'
    code += 'print(sum(run.wait() for run in runs))\n'
    code += f'runs = [subprocess.Popen([sys.executable, "-c", "import swin_mm." + r]) for r in {ROOMS[1::2]}]\n'
    code += 'print(sum(run.wait() for run in runs))\n'
    assert run_python(code).split() == ['0', '0']
