import pytest
from tiny_training import trained


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    """A very small detector, trained for one epoch."""
    return trained(tmp_path_factory.getbasetemp())
