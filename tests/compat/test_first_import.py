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
