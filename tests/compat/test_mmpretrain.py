import sys

import pytest
from test_packages import distribution

from swin_mm.compat import mmpretrain


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmpretrain']:
        monkeypatch.delitem(sys.modules, name)
    yield
    sys.modules.pop(mmpretrain.LANGUAGE_MODELS, None)


@pytest.mark.parametrize(('transformers', 'replaced'), [('4.57.6', False), ('5.23.0', True), ('10.0', True)])
def test_language_models_are_left_out_where_they_cannot_be_imported(tmp_path, monkeypatch, transformers, replaced):
    monkeypatch.syspath_prepend(distribution(tmp_path / 'a', 'mmpretrain', 'mmpretrain', '1.2.0'))
    monkeypatch.syspath_prepend(distribution(tmp_path / 'b', 'transformers', 'transformers', transformers))
    mmpretrain.install()
    assert (mmpretrain.LANGUAGE_MODELS in sys.modules) == replaced


def test_nothing_is_put_there_without_mmpretrain(monkeypatch):
    monkeypatch.setattr(mmpretrain, 'find_spec', lambda name: None)
    mmpretrain.install()
    assert mmpretrain.LANGUAGE_MODELS not in sys.modules
