"""Pieces of work in threads: in order, with errors raised, without gradient, and no harm to PyTorch's own threads."""

import os
import threading

import pytest
import torch

from swin_mm.kernels.cpu_threads import map_on_cores


@pytest.fixture(params=[1, 2, 3], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order(threads):
    assert map_on_cores(lambda i, j: i + j, [(i, 10 * i) for i in range(50)]) == [11 * i for i in range(50)]
    assert torch.get_num_threads() == threads


def test_a_piece_has_one_core_where_there_are_enough_pieces(threads):
    seen = map_on_cores(lambda i: (torch.get_num_threads(), threading.current_thread().name), [(i,) for i in range(20)])
    assert {number for number, _ in seen} == {1}
    assert {number for number, _ in map_on_cores(lambda i: (torch.get_num_threads(), i), [(0,)])} == {threads}


def test_there_is_no_gradient_and_no_autocast():
    weight = torch.ones(4, 4, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        results = map_on_cores(lambda i: weight @ weight * i, [(i,) for i in range(5)])
    assert all(r.dtype == torch.float32 and not r.requires_grad for r in results)


def test_inference_mode_reaches_the_threads():
    with torch.inference_mode():
        total = torch.zeros(8)
        map_on_cores(lambda i: total[i].add_(i), [(i,) for i in range(8)])
        assert all(map_on_cores(lambda i: torch.zeros(1).is_inference(), [(i,) for i in range(8)]))
    assert total.tolist() == list(range(8))


def test_an_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        map_on_cores(lambda i: 1 / (i - 3), [(i,) for i in range(9)])
    assert map_on_cores(lambda i: i, [(1,), (2,)]) == [1, 2]


def test_a_forked_process_has_threads_of_its_own():
    map_on_cores(lambda i: i, [(i,) for i in range(9)])
    child = os.fork()
    if child == 0:
        os._exit(0 if map_on_cores(lambda i: i * i, [(i,) for i in range(9)])[-1] == 64 else 1)
    assert os.waitpid(child, 0)[1] == 0
