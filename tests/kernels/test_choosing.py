"""kernel='auto' on a GPU: the first use checks and times the kernels. The CPU stands in for the device here."""

import logging
import time

import pytest
import torch

from swin_mm import SwinTransformer
from swin_mm.kernels import KERNELS, Map, choosing


def right(*given):
    return KERNELS['sdpa'](*given)


def slow(*given):
    time.sleep(0.05)
    return right(*given)


def wrong(*given):
    return right(*given) * 1.01


def wrong_backwards(qkv, *given):
    return right(qkv * 0.5 + qkv.detach() * 0.5, *given)


def nothing(*given):
    return right(*given) * float('nan')


def raising(*given):
    raise RuntimeError('ptxas fatal:\n  no such target')


def out_of_memory(*given):
    raise torch.OutOfMemoryError('CUDA out of memory')


@pytest.fixture(autouse=True)
def choices(monkeypatch):
    made: dict = {}
    monkeypatch.setattr(choosing, 'CHOICES', made)
    return made


def a_map(dtype=torch.float32, gradient=True, shift=(0, 0)) -> Map:
    random = torch.Generator().manual_seed(0)
    shapes = (1, 9, 11, 3, 4, 16), (4, 25, 25), (3, 4, 16)
    drawn = [torch.randn(shape, generator=random) for shape in shapes]
    return Map(drawn[0].to(dtype).requires_grad_(gradient), drawn[1], drawn[2], (5, 5), shift, 0.25)


@pytest.mark.parametrize('bad', [wrong, wrong_backwards, nothing, raising, out_of_memory, slow])
@pytest.mark.parametrize('first', [True, False])
def test_a_bad_kernel_serves_no_run(bad, first, choices):
    candidates = {'bad': bad, 'right': right} if first else {'right': right, 'bad': bad}
    assert choosing.choose(candidates, a_map()) == 'right'
    ((case, choice),) = choices.items()
    assert case.with_gradient
    assert choice.found['right'].endswith(' ms')
    why = dict(wrong='wrong by', wrong_backwards='wrong by', nothing='wrong by', slow=' ms')
    expected = why.get(bad.__name__, 'ptxas fatal: no such target' if bad is raising else 'OutOfMemoryError')
    assert expected in choice.found['bad']


def test_what_is_wrong_backwards_only_serves_inference():
    candidates = {'wrong_backwards': wrong_backwards}
    assert choosing.choose(candidates, a_map(gradient=False)) == 'wrong_backwards'
    assert choosing.choose(candidates, a_map()) == 'reference'
    with torch.no_grad():
        assert choosing.choose(candidates, a_map()) == 'wrong_backwards'


def test_the_reference_serves_where_no_candidate_is_right():
    assert choosing.choose({'wrong': wrong, 'raising': raising}, a_map()) == 'reference'


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('shift', [(0, 0), (2, 2)])
@pytest.mark.parametrize('name', ['sdpa', 'cpu', 'padding'])
def test_our_kernels_are_right(dtype, shift, name):
    assert choosing.choose({name: KERNELS[name]}, a_map(dtype, shift=shift)) == name


def test_a_choice_is_made_once_and_logged_once(caplog, choices):
    calls = []
    candidates = {'right': lambda *given: calls.append(1) or right(*given), 'slow': slow}
    with caplog.at_level(logging.INFO, 'swin_mm'):
        for shift in ((0, 0), (2, 2), (0, 0), (2, 2)):
            assert choosing.choose(candidates, a_map(shift=shift)) == 'right'
    assert len(choices) == len(caplog.records) == len(choosing.lines()) == 2
    assert len(calls) == 2 * (1 + choosing.WARM_UP + choosing.ROUNDS)
    line = caplog.records[0].getMessage()
    assert line.startswith("kernel='auto' on cpu, float32, windows 5x5, heads of 16, with gradient: right (right: ")


def test_the_caller_sees_nothing_of_it():
    given = a_map()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    choosing.choose({'right': right, 'wrong': wrong}, given)
    assert torch.equal(torch.get_rng_state(), state)
    assert given.qkv.grad is None


def test_a_backbone_runs_by_what_was_chosen(monkeypatch, choices):
    """As on a GPU: the kernels that `auto` knows there are a broken one and sdpa."""
    candidates = {'triton': raising, 'sdpa': right}
    monkeypatch.setattr(
        'swin_mm.backbone.attention.window.fastest', lambda given, dropout: choosing.choose(candidates, given)
    )
    small = dict(embed_dims=16, depths=(2, 1, 1, 1), num_heads=(1, 2, 4, 8), drop_path_rate=0.0)
    torch.manual_seed(0)
    net = SwinTransformer(arch=None, **small)
    image = torch.randn(1, 3, 65, 97)
    found = net(image)
    assert {choice.kernel for choice in choices.values()} == {'sdpa'}
    assert len(choices) == 2, 'shifted and not; all maps have heads of one width'
    for module in net.modules():
        if hasattr(module, 'kernel'):
            module.kernel = 'reference'
    for one, other in zip(found, net(image), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
