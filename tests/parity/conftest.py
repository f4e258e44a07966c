import pytest
import torch


@pytest.fixture
def float64():
    """What a model creates on its way (anchors, targets, weights of losses) is float64 as well."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
