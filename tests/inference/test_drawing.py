"""What is drawn and written, and when it is refused."""

import functools

import pytest

from swin_mm.errors import PreflightError
from swin_mm.inference.drawing import check_display


@pytest.mark.parametrize('backend', ['agg', 'Agg', 'TkAgg'])
def test_showing_needs_a_display(monkeypatch, backend):
    monkeypatch.setattr('matplotlib.pyplot.get_backend', functools.partial(str, backend))
    if backend == 'TkAgg':
        check_display()
    else:
        with pytest.raises(PreflightError, match='--show needs a display'):
            check_display()
