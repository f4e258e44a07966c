"""The shift by padding; test_kernels.py holds its numbers."""

import pytest
import torch

from swin_mm.kernels import KERNELS, padding


@pytest.mark.parametrize(('shift', 'windows'), [((0, 0), 2 * 2), ((3, 3), 3 * 3), ((3, 0), 3 * 2)])
def test_a_shift_costs_a_row_and_a_column_of_windows(monkeypatch, shift, windows):
    """As in figure 4 of the paper, where 2 x 2 windows become 3 x 3."""
    attend, shapes = padding.attend, []
    monkeypatch.setattr(padding, 'attend', lambda q, *rest: shapes.append(q.shape) or attend(q, *rest))
    KERNELS['padding'](torch.randn(1, 14, 14, 3, 1, 4), torch.zeros(1, 49, 49), None, (7, 7), shift, 1.0)
    assert shapes == [(1, windows, 49, 4) if any(shift) else (windows, 1, 49, 4)]
