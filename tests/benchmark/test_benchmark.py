"""tools/benchmark.py: what it times are equal networks, and its figures follow from the times that it writes."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from samples.tiny_training import ROOT
from torch import nn

from swin_mm.backbone.arguments import ARCHS
from swin_mm.benchmark import comparing, measuring
from swin_mm.benchmark import peers as peers_module
from swin_mm.commands import benchmark as benchmark_command
from swin_mm.errors import PreflightError

PICO = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))
QUICK = ['--rounds', '3', '--device', 'cpu', '--arch', 'pico']
CPU = torch.device('cpu')


@pytest.fixture
def benchmark(monkeypatch):
    """The names of the script, which knows an architecture 'pico' and leaves timm as it was."""
    monkeypatch.setitem(ARCHS, 'pico', PICO)
    if 'timm' in sys.modules:
        config = sys.modules['timm.layers.config']
        monkeypatch.setattr(config, '_USE_FUSED_ATTN', config._USE_FUSED_ATTN)
    return benchmark_command


@pytest.fixture
def results(benchmark):
    return measuring


@pytest.fixture
def peers(benchmark):
    return peers_module


def test_the_report_has_what_the_times_say(benchmark, tmp_path, capsys):
    out, plot = tmp_path / 'run.json', tmp_path / 'run.png'
    argv = [*QUICK, '--impl', 'swin_mm', 'mmdet', 'torchvision', '--shape', '64x64', '101x150']
    report = benchmark.main([*argv, '--out', str(out), '--plot', str(plot)])
    assert json.loads(out.read_text()) == report
    assert plot.read_bytes().startswith(b'\x89PNG')
    assert [tuple(result['shape']) for result in report['results']] == [(64, 64), (101, 150)]
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120

    _, *tables = text.split('\n\n')
    for result, table in zip(report['results'], tables, strict=True):
        entries = result['implementations']
        assert table.startswith('{} x {} '.format(*result['shape']))
        assert list(entries) == ['swin_mm', 'mmdet', 'torchvision']
        assert result['reference'] == 'mmdet'
        for name, entry in entries.items():
            times = np.array(entry['times'])
            assert len(times) == 3
            assert min(times) > 0
            assert entry['median'] == np.median(times)
            assert entry['quartiles'] == pytest.approx(np.percentile(times, [25, 75]))
            assert entry['speed'] == pytest.approx(np.median(entries['mmdet']['times'] / times))
            assert entry['memory'] is None
            shown = f'{entry["speed"]:.2f}x{entry["difference"]:>13.1e}'
            (line,) = [line for line in table.splitlines() if line.startswith(f'{name} ') and line.endswith(shown)]
            assert float(line.split()[1]) == pytest.approx(entry['median'] * 1e3, abs=0.051)  # ms


def test_the_networks_are_equal_where_no_caveat_says_otherwise(benchmark, capsys):
    pytest.importorskip('timm', reason='timm is an oracle: pip install timm')
    report = benchmark.main([*QUICK, '--shape', '448x448', '101x150'])
    whole, ragged = (result['implementations'] for result in report['results'])
    for entries in (whole, ragged):
        assert entries['mmdet']['difference'] == 0
        assert 0 < entries['swin_mm']['difference'] < 1e-5
    for name in ('timm', 'torchvision'):
        assert whole[name]['difference'] < 1e-5
        assert 'maps differ' not in whole[name]['caveat']
        assert ragged[name]['difference'] > 1e-2
        assert 'maps differ' in ragged[name]['caveat']
        assert 'no norms' in whole[name]['caveat']
    assert 'timm: it shifts before it pads' in capsys.readouterr().out


def test_v2_stands_beside_timms_and_torchvisions(benchmark, capsys):
    pytest.importorskip('timm', reason='timm is an oracle: pip install timm')
    report = benchmark.main([*QUICK, '--v2', '--shape', '512x512', '101x150'])
    whole, ragged = (result['implementations'] for result in report['results'])
    assert list(whole) == ['swin_mm', 'timm', 'torchvision']
    for name in ('timm', 'torchvision'):
        assert whole[name]['difference'] < 1e-5
        assert 'maps differ' not in whole[name]['caveat']
        assert 'maps differ' in ragged[name]['caveat']
    assert capsys.readouterr().out.startswith('Swin V2 pico, batch 1')


def test_timm_runs_its_fused_attention_with_full_windows(benchmark, peers):
    pytest.importorskip('timm', reason='timm is an oracle: pip install timm')
    net = peers.backbones('pico', ['timm'])['timm'].net
    blocks = [module for module in net.modules() if hasattr(module, 'shift_size')]
    assert len(blocks) == 8
    assert all(block.attn.fused_attn for block in blocks)
    assert {block.window_size for block in blocks} == {(7, 7)}
    assert [block.shift_size for block in blocks] == [(0, 0), (3, 3)] * 4


def test_reduced_precision_shows_in_the_difference(benchmark):
    report = benchmark.main([*QUICK, '--shape', '64x64', '--impl', 'swin_mm', 'mmdet', '--dtype', 'bf16'])
    for entry in report['results'][0]['implementations'].values():
        assert 1e-3 < entry['difference'] < 0.3


def test_rounds_are_interleaved_after_a_warm_up(results, peers):
    calls = []
    runs = {name: (nn.Identity(), functools.partial(calls.append, name)) for name in 'ABC'}
    found = results.measure(runs, peers.Conditions(CPU, rounds=3))
    assert ''.join(calls) == 'AABBCC' + 'ABC' * 3
    assert [len(found[name]['times']) for name in 'ABC'] == [3, 3, 3]


def test_speed_is_the_median_of_the_ratios_of_rounds(results):
    assert results.speed([1.0, 1.0, 4.0], [2.0, 8.0, 4.0]) == 2.0  # the ratio of the medians is 4


def test_saved_activations_by_hand(results):
    x, first, second = torch.randn(2, 4), nn.Linear(4, 8), nn.Linear(8, 4)

    def saved(run):
        return results.saved_activations(nn.ModuleList([first, second]), lambda: run().sum().backward())

    x_bytes, hidden_bytes = 2 * 4 * 4, 2 * 8 * 4
    assert saved(lambda: first(x)) == x_bytes
    assert saved(lambda: first(x.requires_grad_())) == x_bytes  # it also keeps the weight
    assert saved(lambda: first(x) + first(x)) == x_bytes  # one storage, twice
    assert saved(lambda: second(nn.functional.gelu(first(x)))) == x_bytes + 2 * hidden_bytes
    assert saved(lambda: second.weight) == 0


@pytest.mark.parametrize('name', ['swin_mm', 'mmdet', 'torchvision'])
def test_training_reaches_every_weight_and_inference_none(peers, benchmark, name):
    """A plain sum of maps would have no gradient behind their norms."""
    peer, image = peers.backbones('pico', [name])[name], torch.randn(2, 3, 64, 64)
    maps = peer.repetition(image, peers.Conditions(CPU))()
    assert not any(m.requires_grad for m in maps)
    assert not peer.net.training
    peer.repetition(image, peers.Conditions(CPU, train=True))()
    assert peer.net.training
    assert all(p.grad.abs().max() > 1e-4 for p in peer.net.parameters())


def test_training_is_measured_with_its_memory(benchmark, capsys):
    argv = [*QUICK, '--shape', '64x64', '--impl', 'swin_mm', 'torchvision', '--mode', 'train']
    memory = []
    for batch in ('1', '2'):
        result = benchmark.main([*argv, '--batch', batch])['results'][0]
        assert result['reference'] == 'swin_mm'  # the first, in want of mmdet
        assert result['implementations']['swin_mm']['speed'] == 1
        assert result['implementations']['swin_mm']['memory'] > 0
        memory.append(result['implementations']['torchvision']['memory'])
    assert 1.8 * memory[0] < memory[1] < 2 * memory[0]  # all but the tables of biases
    text = capsys.readouterr().out
    assert 'activations kept for the backward pass' in text
    assert f'{memory[1] / 1e6:.2f} MB' in text


def test_compiled_ones_stand_beside_the_plain_ones(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))  # in seconds
    report = benchmark.main([*QUICK, '--shape', '64x64', '--impl', 'torchvision', '--compile'])
    entries = report['results'][0]['implementations']
    assert list(entries) == ['torchvision', 'torchvision+compile']
    plain, compiled = entries.values()
    assert plain['compiling'] is None
    assert compiled['compiling'] > 10 * compiled['median']  # which is not in the times
    assert compiled['difference'] < 1e-5
    assert f'{compiled["compiling"]:.1f} s' in capsys.readouterr().out


@pytest.mark.parametrize('mode', ['infer', 'train'])
@pytest.mark.parametrize(('recipe', 'library'), [('mask_rcnn', 'mmdet'), ('upernet', 'mmseg')])
def test_whole_models_differ_in_nothing_but_the_backbone(benchmark, peers, recipe, library, mode):
    config = str(ROOT / f'configs/{recipe}_swin_pico_shapes.py')
    argv = ['--model', config, '--device', 'cpu', '--rounds', '3', '--shape', '64x96', '--batch', '2', '--mode', mode]
    report = benchmark.main(argv)
    assert report['settings']['arch'] is None
    (result,) = report['results']
    ours, stock = (result['implementations'][name] for name in ('swin_mm', library))
    assert (result['reference'], stock['speed'], stock['difference']) == (library, 1, 0)
    assert 0 < ours['difference'] < 1e-5
    assert (ours['memory'] or 0) > 0 if mode == 'train' else ours['memory'] is None

    models = benchmark.whole_models(benchmark.Config.fromfile(config))
    backbones = [type(models[name].net.backbone).__module__.split('.')[0] for name in ('swin_mm', library)]
    assert backbones == ['swin_mm', library]
    if mode == 'train':
        models[library].repetition(torch.randn(2, 3, 64, 96), peers.Conditions(CPU, train=True))()
        assert all(p.grad.abs().max() > 0 for p in models[library].net.backbone.parameters())


def test_a_whole_model_of_four_channels_gets_four(benchmark):
    argv = ['--model', 'mask_rcnn_swin_pico_heat', '--device', 'cpu', '--rounds', '3', '--shape', '64x96']
    (result,) = benchmark.main(argv)['results']
    assert 0 < result['implementations']['swin_mm']['difference'] < 1e-5


def test_the_exponent_of_growth_is_found(results):
    pixels = [side * side for side in (128, 256, 512, 768, 1024, 2048)]
    times = [3e-9 * p**1.07 for p in pixels]
    times[:2] = [1.0, 1.0]  # a fixed cost, below where the fit begins
    assert results.exponent(pixels, times, 512 * 512) == pytest.approx(1.07)
    assert results.exponent(pixels[:3], times[:3], 512 * 512) is None


def test_scaling_tells_time_and_memory_over_pixels(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(comparing, 'SIDES', (32, 96, 160))
    monkeypatch.setattr(benchmark, 'SIDES', (32, 96, 160))
    monkeypatch.setattr(comparing, 'FITTED_FROM', 96 * 96)
    argv = [*QUICK, '--scaling', '--mode', 'train', '--plot', str(tmp_path / 'run.png')]
    scaling = benchmark.main(argv)['scaling']
    assert [(point['shape'], point['pixels']) for point in scaling['points']] == [
        ([side, side], side * side) for side in (32, 96, 160)
    ]
    (p, t), (q, u) = ((point['pixels'], point['median']) for point in scaling['points'][1:])
    assert scaling['exponent'] == pytest.approx(np.log(u / t) / np.log(q / p))
    assert scaling['points'][2]['memory'] > 2 * scaling['points'][1]['memory'] > 0
    assert f'pixels ** {scaling["exponent"]:.3f}' in capsys.readouterr().out
    assert (tmp_path / 'run.png').read_bytes().startswith(b'\x89PNG')


def test_the_machine_and_the_versions_are_told(benchmark):
    report = benchmark.main([*QUICK, '--shape', '64x64', '--impl', 'swin_mm', '--threads', '1'])
    assert report['machine']['cpu']
    assert (report['machine']['threads'], report['machine']['gpu']) == (1, None)
    assert report['versions']['torch'] == torch.__version__
    assert report['settings']['impl'] == ['swin_mm']
    assert report['settings']['shape'] == [[64, 64]]
    assert report['commit'] is None or len(report['commit'].removesuffix('-dirty')) == 40


def test_a_library_that_is_not_there(benchmark, monkeypatch, capsys):
    there = benchmark.find_spec
    monkeypatch.setitem(benchmark.main.__globals__, 'find_spec', lambda name: None if name == 'timm' else there(name))
    report = benchmark.main([*QUICK, '--shape', '64x64'])
    assert list(report['results'][0]['implementations']) == ['swin_mm', 'mmdet', 'torchvision']
    assert 'timm is not installed and left out' in capsys.readouterr().out
    with pytest.raises(PreflightError, match='timm is not installed: pip install timm'):
        benchmark.main([*QUICK, '--impl', 'timm'])


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (['--shape', '800'], 'HEIGHTxWIDTH in pixels, such as 800x1333, got 800$'),
        (['--shape', '64x64', '0x64'], 'got 0x64'),
        (['--device', 'tpu'], r'--device must be one of \[.cpu.*got tpu'),
        (['--device', 'cuda:64'], 'got cuda:64'),
        (['--dtype', 'fp16'], 'fp16 is 10x slower than fp32 on CPUs'),
        (['--batch', '0'], '--batch must be at least 1, got 0'),
        (['--rounds', '2'], '--rounds must be at least 3, got 2'),
        (['--threads', '0'], '--threads must be at least 1, got 0'),
        (['--out', 'run.txt'], '--out must end in .json'),
        (['--plot', 'nowhere/run.png'], 'in a folder that is there, got nowhere/run.png'),
        (['--scaling', '--shape', '64x64'], '--shape must be left out with --scaling'),
        (['--ablations', '--impl', 'swin_mm'], '--impl must be left out with --ablations'),
        (['--ablations', '--shape', '64x64', '32x32'], '--shape must be one size with --ablations, got 64x64 32x32'),
        (['--complexity', '--arch', 'tiny'], '--arch must be left out with --complexity'),
        (['--model', 'x.py', '--arch', 'tiny'], '--arch must be left out with --model'),
        (['--model', 'x.py', '--v2'], '--v2 must be left out with --model'),
        (['--v2', '--impl', 'swin_mm', 'mmdet'], 'mmdet has no Swin Transformer V2: leave it out of --impl'),
        (['--model', 'x.py'], 'config x.py was found neither'),
        (['--model', 'configs/upernet_swin_pico_shapes.py', '--mode', 'train'], '--batch must be at least 2'),
        (['--model', 'resnet.py'], 'a SwinTransformer as model.backbone, got default_scope=mmdet and backbone ResNet'),
        (['--model', 'ratio.py'], 'mlp_ratio must be one whole number, .*got 2.5'),
    ],
)
def test_what_cannot_be_measured_is_refused(benchmark, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    backbones = {'resnet': "type='ResNet'", 'ratio': 'mlp_ratio=2.5'}
    for name, setting in backbones.items():
        base = ROOT / 'configs/mask_rcnn_swin_pico_shapes.py'
        (tmp_path / f'{name}.py').write_text(f"_base_ = '{base}'\nmodel = dict(backbone=dict({setting}))\n")
    with pytest.raises(PreflightError, match=words):
        benchmark.main(['--device', 'cpu', *argv] if '--device' not in argv else argv)


def test_a_refusal_is_one_line_wherever_the_script_is_started(tmp_path):
    """Also where the package is not installed."""
    command = [sys.executable, str(ROOT / 'tools/benchmark.py'), '--device', 'cpu', '--dtype', 'fp16']
    clean = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.startswith('benchmark.py: --dtype fp16 must run on a GPU')
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('mode', ['infer', 'train'])
def test_on_a_gpu(benchmark, mode):
    argv = ['--rounds', '3', '--arch', 'pico', '--device', 'cuda', '--shape', '448x448', '--mode', mode]
    result = benchmark.main([*argv, '--dtype', 'bf16', '--impl', 'swin_mm', 'mmdet'])['results'][0]
    for entry in result['implementations'].values():
        assert entry['median'] > 0
        assert entry['memory'] > 448 * 448 / 16 * 16 * 2  # the first map in bfloat16
        assert 1e-3 < entry['difference'] < 0.3
