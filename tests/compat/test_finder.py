import importlib
import importlib.util
import pkgutil
import sys

import mmcv.ops
import pytest
import torch
from mmengine.utils.dl_utils.misc import mmcv_full_available

from swin_mm import compat
from swin_mm.compat import mmcv_ops

HEAVY = ('mmcv', 'mmdet', 'mmseg', 'torchvision')
PACKAGES = (
    'mmdet.models', 'mmdet.apis', 'mmdet.datasets', 'mmdet.evaluation', 'mmseg.models', 'mmseg.apis', 'mmseg.datasets'
)  # fmt: skip
NATIVE = "__file__ = 'native'\ndef __getattr__(name):\n    return f'native {name}'\n"


def test_importing_swin_mm_imports_nothing_heavy_and_puts_the_finder_behind_that_of_files(run_python):
    """A package that mmengine imports may stand behind it: transformers does."""
    names = '*[getattr(f, "__name__", type(f).__name__) for f in sys.meta_path]'
    heavy, *finders = run_python(
        f'import sys, swin_mm; print([m for m in {HEAVY} if m in sys.modules], {names})'
    ).split()
    assert heavy == '[]'
    assert finders.index('MmcvOpsFinder') > finders.index('PathFinder')


@pytest.mark.filterwarnings('ignore::DeprecationWarning:pkgutil')
def test_everyone_who_asks_finds_it_with_a_loader():
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec.loader is mmcv_ops.FINDER
    assert pkgutil.find_loader('mmcv._ext') is mmcv_ops.FINDER
    assert mmcv_full_available()


def test_the_finder_serves_one_name_and_stands_there_once():
    compat.install()
    mmcv_ops.install()
    assert sys.meta_path.count(mmcv_ops.FINDER) == 1
    assert mmcv_ops.FINDER.find_spec('mmcv._ext2') is None
    assert mmcv_ops.FINDER.find_spec('mmdet._ext') is None


def test_a_native_build_wins(run_python, tmp_path):
    package = tmp_path / 'site' / 'mmcv'
    package.mkdir(parents=True)
    (package / '__init__.py').touch()
    (package / '_ext.py').write_text(NATIVE)
    assert run_python('import swin_mm, mmcv._ext as e; print(e.nms)', tmp_path / 'site').strip() == 'native nms'


def test_every_op_that_mmdet_and_mmseg_need_is_there():
    ext = importlib.import_module('mmcv._ext')
    for op in ('nms', 'softnms', 'roi_align_forward', 'ms_deform_attn_backward', 'modulated_deform_conv_backward'):
        assert getattr(ext, op).__module__.startswith('swin_mm.compat.mmcv_ops.')


def test_an_op_that_is_not_provided_raises_its_name_its_user_and_a_way_out():
    rois = torch.tensor([[0, 0, 0, 4, 4.0]])
    with pytest.raises(NotImplementedError, match=r'roi_pool_forward, which mmcv\.ops\.roi_pool needs.* from source'):
        mmcv.ops.roi_pool(torch.zeros(1, 1, 8, 8), rois, 2)


def test_private_names_are_absent():
    ext = importlib.import_module('mmcv._ext')
    for name in ('__path__', '__wrapped__', '_private'):
        with pytest.raises(AttributeError, match=name):
            getattr(ext, name)


def test_the_environment_report_of_mmcv_works():
    from mmcv.utils import collect_env

    report = collect_env()
    assert 'torchvision' in report['MMCV Compiler']
    assert report['MMCV CUDA Compiler'] == (torch.version.cuda or 'not available')


@pytest.mark.parametrize('packages', [PACKAGES, PACKAGES[::-1]], ids=['mmdet first', 'mmseg first'])
def test_mmdet_and_mmseg_import_without_a_warning_of_ours(run_python, packages):
    code = f"""
import importlib, warnings
warnings.filterwarnings('error', module=r'swin_mm(\\..*)?$')
import swin_mm
for name in {packages}:
    importlib.import_module(name)
"""
    run_python(code)
