"""``swin-mm benchmark --ablations`` and ``--complexity``: what they measure is what they say."""

import json

import numpy as np
import pytest
import torch

from swin_mm import SwinTransformer
from swin_mm.backbone.arguments import ARCHS
from swin_mm.backbone.attention import PerformerAttention, SlidingAttention, WindowAttention
from swin_mm.benchmark import ablations, complexity
from swin_mm.benchmark.measuring import PeakMemory
from swin_mm.commands import benchmark

PICO = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))
QUICK = ['--rounds', '3', '--device', 'cpu']


@pytest.fixture(autouse=True)
def _pico(monkeypatch):
    monkeypatch.setitem(ARCHS, 'pico', PICO)


@pytest.mark.parametrize('mode', ['infer', 'train'])
def test_every_method_is_timed_in_every_stage_and_as_a_whole(mode, tmp_path, capsys):
    out, plot = tmp_path / 'run.json', tmp_path / 'run.png'
    argv = [*QUICK, '--ablations', '--arch', 'pico', '--shape', '64x96', '--batch', '2', '--mode', mode]
    report = benchmark.main([*argv, '--out', str(out), '--plot', str(plot)])
    assert json.loads(out.read_text()) == report
    assert plot.read_bytes().startswith(b'\x89PNG')
    result = report['ablations']
    assert (result['shape'], len(result['stages']), list(result['archs'])) == ([64, 96], 4, ['pico'])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    for name in ablations.METHODS:
        (line,) = [line for line in text.splitlines() if line.startswith(f'{name}  ')]
        *stages, whole = [*(stage[name] for stage in result['stages']), result['archs']['pico'][name]]
        medians = [float(word) for word in line.removeprefix(name).split()[: 2 * len(stages) : 2]]
        assert medians == pytest.approx([entry['median'] * 1e3 for entry in stages], abs=0.051)
        reference = np.array(result['archs']['pico'][ablations.REFERENCE]['times'])
        speed = np.median(reference / whole['times'])
        assert line.endswith(f'{2 / whole["median"]:.2f}/s, {speed:.2f}x')


def test_the_methods_are_those_of_the_paper():
    kinds = {}
    for name, given in ablations.METHODS.items():
        net = SwinTransformer('pico', **given)
        attention = [block.attn for stage in net.layers for block in stage.blocks]
        kinds[name] = {(type(a), a.kernel, a.shift != (0, 0)) for a in attention[1::2]}
    assert kinds == {
        'sliding window': {(SlidingAttention, 'auto', True)},  # which does not use its shift
        'Performer': {(PerformerAttention, 'auto', True)},
        'window, no shift': {(WindowAttention, 'sdpa', False)},
        'shifted window, padding': {(WindowAttention, 'padding', True)},
        'shifted window, cyclic': {(WindowAttention, 'sdpa', True)},
        'shifted window, auto': {(WindowAttention, 'auto', True)},
    }


def test_a_stage_is_its_attention_layers_on_maps_of_its_size():
    net = SwinTransformer('pico')
    maps = ablations._maps(net, torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 16, 24, 16), (1, 8, 12, 32), (1, 4, 6, 64), (1, 2, 3, 128)]
    attention = ablations.StageAttention(net.layers[1])
    got = attention(maps[1])
    assert [torch.equal(m, block.attn(maps[1])) for m, block in zip(got, net.layers[1].blocks, strict=True)] == [
        True
    ] * 2


def test_complexity_grows_as_the_formulas_say(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(complexity, 'SIDES', (28, 56, 112, 168))
    monkeypatch.setattr(complexity, 'MOST_GLOBAL', 112)
    monkeypatch.setattr(complexity, 'FITTED_FROM', 10**6)  # bytes: 784 tokens in windows, and 196 all together
    plot = tmp_path / 'run.png'
    result = benchmark.main([*QUICK, '--complexity', '--plot', str(plot)])['complexity']
    assert plot.read_bytes().startswith(b'\x89PNG')
    tokens = {kind: [point['tokens'] for point in result[kind]['points']] for kind in ('window', 'global')}
    assert tokens == {'window': [49, 196, 784, 1764], 'global': [49, 196, 784]}
    for kind, factor in (('window', lambda n: 49), ('global', lambda n: n)):
        for point in result[kind]['points']:
            n = point['tokens']
            assert point['counted'] == 4 * n * 96**2 + 2 * factor(n) * n * 96
    for kind, start in (('window', 784), ('global', 196)):
        fitted = [point for point in result[kind]['points'] if point['tokens'] >= start]
        (p, t), (q, u) = ((point['tokens'], point['median']) for point in fitted)
        assert result[kind]['fitted_from'] == start
        assert result[kind]['exponents']['median'] == pytest.approx(np.log(u / t) / np.log(q / p))
    assert result['window']['exponents']['memory'] == pytest.approx(1, abs=0.01)
    assert 1.6 < result['global']['exponents']['memory'] < 2
    assert result['global']['points'][2]['memory'] > 2 * 4 * 3 * 784**2  # scores of three heads, twice
    text = capsys.readouterr().out
    assert '       7 x 7       0.239 G       0.239 G       0.239 G       0.239 G' in text
    assert f'memory ~ tokens ** {result["global"]["exponents"]["memory"]:.2f}, from 196 tokens up' in text


def test_the_attention_of_stages_costs_what_the_equations_say():
    """Swin-T at 224 x 224, where every map is whole windows."""
    costs = complexity.costs_of_stages('tiny', (224, 224))
    for i, (window, whole) in enumerate(zip(costs['window'], costs['global'], strict=True)):
        n, C, depth = (56 // 2**i) ** 2, 96 * 2**i, (2, 2, 6, 2)[i]
        assert window.counted == window.window_formula == depth * (4 * n * C * C + 2 * 49 * n * C)
        assert whole.counted == whole.global_formula == depth * (4 * n * C * C + 2 * n * n * C)


def test_peak_memory_by_hand():
    before = torch.zeros(100)
    with PeakMemory() as memory:
        a = torch.zeros(1000)  # 4000 bytes
        b = a + 1  # and 4000
        del a
        b.view(10, 100).add_(1)  # no more
        before.view(10, 10).mul_(2)
        c = b[:500] * 2  # 2000, beside 4000
        del b, c
        torch.zeros(250)
    assert memory.peak == 8000
