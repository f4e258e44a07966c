import sys
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import mmdet
import pytest
from mmengine import Config
from mmengine.hub import get_config

from swin_mm.compat import packages

DETECTOR = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
SEGMENTOR = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
NAMES = ('is_installed', 'get_installed_path', 'package2module')
WITHOUT_PKG_RESOURCES = "import sys; sys.modules.pop('pkg_resources', None); sys.modules['pkg_resources'] = None\n"

beside_the_original = pytest.mark.skipif(
    not any(Distribution.discover(name='mmsegmentation')), reason='a fork of mmsegmentation is installed'
)


def distribution(folder: Path, name: str, module: str, version: str = '3.5.1') -> Path:
    """A folder for the path of Python in which a distribution provides a module."""
    (folder / module).mkdir(parents=True)
    (folder / module / '__init__.py').touch()
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    (info / 'top_level.txt').write_text(f'{module}\n')
    return folder


def test_a_config_inherits_from_mmdet(tmp_path):
    recipe = tmp_path / 'recipe.py'
    recipe.write_text(f"_base_ = '{DETECTOR}'\nmodel = dict(backbone=dict(type='swin_mm.SwinTransformer'))\n")
    backbone = Config.fromfile(recipe).model.backbone
    assert backbone.type == 'swin_mm.SwinTransformer'
    assert backbone.embed_dims == 96


@pytest.mark.parametrize('name', [DETECTOR, SEGMENTOR])
def test_the_hub_of_mmengine_finds_configs(name):
    assert get_config(name).model.backbone.type == 'SwinTransformer'


@beside_the_original
def test_packages_are_found_by_distribution_and_by_module():
    folder = str(Path(mmdet.__file__).parent)
    assert packages.get_installed_path('mmdet') == folder
    assert packages.get_installed_path('mmsegmentation') == str(Path(folder).parent / 'mmseg')
    assert packages.package2module('mmsegmentation') == 'mmseg'
    assert packages.is_installed('mmsegmentation')
    assert packages.is_installed('mmseg')


def test_what_is_not_there_is_not_installed():
    assert not packages.is_installed('no-such-package')
    for function in (packages.get_installed_path, packages.package2module):
        with pytest.raises(PackageNotFoundError, match='no-such-package'):
            function('no-such-package')


def test_a_distribution_under_another_name_than_its_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(distribution(tmp_path, 'some-fork', 'somemodule'))
    assert packages.is_installed('some-fork')
    assert packages.is_installed('somemodule')
    assert packages.get_installed_path('some-fork') == str(tmp_path / 'somemodule')


def test_a_namespace_package_has_no_path(tmp_path, monkeypatch):
    (tmp_path / 'spacious').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not packages.is_installed('spacious')
    with pytest.raises(RuntimeError, match='spacious is a namespace package'):
        packages.get_installed_path('spacious')


def test_a_distribution_that_does_not_tell_its_module(tmp_path, monkeypatch):
    (distribution(tmp_path, 'silent', 'other') / 'silent-3.5.1.dist-info' / 'top_level.txt').unlink()
    monkeypatch.syspath_prepend(tmp_path)
    assert packages.is_installed('silent')
    with pytest.raises(ValueError, match='cannot infer the module of silent'):
        packages.package2module('silent')


@pytest.mark.parametrize(
    ('name', 'module', 'asked'),
    [('onedl-mmdetection', 'mmdet', 'mmdet'), ('onedl-mmsegmentation', 'mmseg', 'mmsegmentation')],
)
def test_the_onedl_forks_are_found(tmp_path, monkeypatch, name, module, asked):
    """As where only the fork is installed: no distribution goes by the name that mmengine asks for."""
    real = packages.distribution

    def without_the_original(package):
        if package == asked:
            raise PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(packages, 'distribution', without_the_original)
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(distribution(tmp_path, name, module))
    assert packages.is_installed(asked)
    assert packages.get_installed_path(asked) == str(tmp_path / module)


def test_every_module_of_mmengine_has_the_replacement(run_python):
    code = f"""{WITHOUT_PKG_RESOURCES}
import mmengine.hub, swin_mm
from mmengine import config, hub, utils
from swin_mm.compat import packages
for module in (mmengine, config.config, hub.hub, utils, utils.package_utils):
    for name in {NAMES}:
        assert getattr(module, name, None) in (None, getattr(packages, name)), (module, name)
assert config.config.get_installed_path is hub.hub.get_installed_path is packages.get_installed_path
"""
    run_python(code)


@beside_the_original
def test_where_pkg_resources_is_there_upstream_stays(run_python, tmp_path):
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'pkg_resources.py').touch()
    code = """
import swin_mm
from mmengine.utils import package_utils
print({package_utils.is_installed.__module__, package_utils.get_installed_path.__module__})
"""
    assert run_python(code, tmp_path / 'old').strip() == "{'mmengine.utils.package_utils'}"


def test_a_fork_is_found_where_pkg_resources_is_there(run_python, tmp_path):
    """mmengine asks for a distribution by the name of the original, and by no module's."""
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'pkg_resources.py').touch()
    fork = distribution(tmp_path / 'fork', 'some-fork', 'somemodule')
    code = """
from mmengine.config.utils import MODULE2PACKAGE
MODULE2PACKAGE['somemodule'] = 'some-original'
import swin_mm
from mmengine.utils import package_utils
print(package_utils.is_installed('some-original'), package_utils.get_installed_path('some-original'))
"""
    assert run_python(code, tmp_path / 'old', fork).split() == ['True', str(fork / 'somemodule')]
