import pytest

from swin_mm.datasets.shapes.write import write_shapes


@pytest.fixture(scope='session')
def counts():
    return {'train': 60, 'val': 12}


@pytest.fixture(scope='session')
def root(tmp_path_factory, counts):
    """A set of ``counts`` pictures, seed 0; read only."""
    return write_shapes(tmp_path_factory.mktemp('data') / 'shapes', **counts)
