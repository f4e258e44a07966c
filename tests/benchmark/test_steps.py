"""``benchmark --recipe``: what it times is the recipe's own step, with and without the preset `fast`."""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from samples.tiny_training import ROOT

from swin_mm.benchmark.models import our_model
from swin_mm.benchmark.steps import PrecisionSettings, Training, _made_batch, _trainings
from swin_mm.commands.benchmark import main
from swin_mm.errors import PreflightError
from swin_mm.recipes import find_config

RECIPES = ['mask_rcnn_swin_pico_shapes', 'upernet_swin_pico_shapes']
QUICK = ['--rounds', '3', '--device', 'cpu', '--shape', '64x96']
SMALL = dict(embed_dims=8, depths=(2, 1, 1, 1), num_heads=(1, 1, 2, 2))


def small_config(recipe: str) -> Config:
    cfg = Config.fromfile(find_config(recipe))
    cfg.model.backbone.update(SMALL)
    widths = [8, 16, 32, 64]
    if 'neck' in cfg.model:
        cfg.model.neck.in_channels = widths
    else:
        cfg.model.decode_head.in_channels, cfg.model.auxiliary_head.in_channels = widths, widths[2]
        cfg.model.data_preprocessor.size = (64, 64)
    return cfg


@pytest.mark.parametrize('recipe', RECIPES)
def test_a_recipe_is_timed_with_and_without_fast(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out, plot = tmp_path / 'run.json', tmp_path / 'run.png'
    small_config(recipe).dump('small.py')
    before = PrecisionSettings.current()
    report = main([*QUICK, '--recipe', 'small.py', '--batch', '2', '--out', str(out), '--plot', str(plot)])
    assert PrecisionSettings.current() == before
    assert json.loads(out.read_text()) == report
    assert plot.read_bytes().startswith(b'\x89PNG')
    (result,) = report['results']
    entries = result['implementations']
    assert list(entries) == report['settings']['impl'] == ['recipe', 'recipe+fast']
    plain, fast = entries.values()
    assert fast['speed'] == pytest.approx(np.median(np.array(plain['times']) / fast['times']))
    assert 0 < fast['memory'] < plain['memory'], 'half the bytes for what is computed in bfloat16'
    assert plain['difference'] == 0 < fast['difference'] < 0.05
    text = capsys.readouterr().out
    assert text.startswith("small.py, batch 2, the recipe's dtype, whole steps of training, 3 rounds\n")
    assert text.count('recipe+fast: on a CPU `fast` is bfloat16 and channels last only: TF32 and') == 1
    assert 'paramwise_options' not in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(('recipe', 'decay'), [(RECIPES[0], 0.05), (RECIPES[1], 0.01)])
def test_a_step_is_the_recipe_s_own(recipe, decay):
    """As plain PyTorch takes it, with the clipping, rates and decays that the recipe states, in double precision.

    A first step of Adam is as long for a gradient that is nearly nothing, which rounding changes, as for any other.
    """
    cfg = small_config(recipe)
    batch = _made_batch(cfg.default_scope, (2, 3, 64, 64))
    ours = our_model(cfg).double().train()
    plain = copy.deepcopy(ours)
    training = Training(ours, cfg)
    training.step(batch)

    torch.manual_seed(0)
    data = plain.data_preprocessor(batch, True)
    losses = plain(**data, mode='loss')
    parts = [
        part
        for name, value in losses.items()
        if 'loss' in name
        for part in ([value] if torch.is_tensor(value) else value)
    ]
    loss = sum(part.mean() for part in parts)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 10.0)
    exempt = ('norm', 'relative_position_bias_table', 'absolute_pos_embed')
    groups = [
        dict(params=[p], weight_decay=0.0 if any(key in name for key in exempt) else decay)
        for name, p in plain.named_parameters()
    ]
    torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98)).step()
    torch.testing.assert_close(training.losses[0], loss.detach())
    torch.testing.assert_close(dict(ours.named_parameters()), dict(plain.named_parameters()), rtol=1e-6, atol=1e-8)


def test_only_fast_steps_are_fast():
    """Steps in turns: each has its own settings of the process, its own order of bytes and its own precision."""
    cfg = small_config(RECIPES[1])
    batch = _made_batch(cfg.default_scope, (2, 3, 64, 64))
    trainings, seen = _trainings(our_model(cfg), cfg, torch.device('cpu')), []
    for training in trainings.values():
        convolution = training.net.decode_head.fpn_bottleneck.conv
        convolution.register_forward_hook(
            lambda module, inputs, output: seen.append(
                (
                    output.dtype,
                    module.weight.is_contiguous(memory_format=torch.channels_last),
                    torch.get_float32_matmul_precision(),
                )
            )
        )
    before = PrecisionSettings.current()
    for name in ('recipe', 'recipe+fast', 'recipe'):
        trainings[name].step(batch)
    before.apply()
    plain, fast = (torch.float32, False, 'highest'), (torch.bfloat16, True, 'high')
    assert seen == [plain, fast, plain]
    assert {p.dtype for p in trainings['recipe+fast'].net.parameters()} == {torch.float32}


def test_both_draw_the_same_random_numbers():
    """Proposals are sampled: with others, the two would have other losses and other work."""
    cfg = small_config(RECIPES[0])
    batch = _made_batch(cfg.default_scope, (2, 3, 64, 64))
    net = our_model(cfg)
    one, other = (Training(copy.deepcopy(net), cfg) for _ in range(2))
    for training in (one, other, one, other):
        training.step(batch)
    assert one.losses == other.losses
    assert one.losses[0] != one.losses[1]


def test_the_batch_is_the_recipe_s_unless_it_is_given(monkeypatch):
    asked = []
    monkeypatch.setitem(main.__globals__, 'compare_steps', lambda *words: asked.append(words[2:4]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([*QUICK, '--recipe', RECIPES[1]])
    assert asked == [(8, (64, 96))]


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (['mask_rcnn_swin_pico_shape'], 'config mask_rcnn_swin_pico_shape was found neither .*: did you mean'),
        ([RECIPES[1], '--batch', '1'], '--batch must be at least 2 to train a segmentor'),
        ([RECIPES[0], '--dtype', 'bf16'], '--dtype must be left out with --recipe, which decides it'),
        ([RECIPES[0], '--mode', 'infer'], '--mode must be left out with --recipe'),
        ([RECIPES[0], '--compile'], '--compile must be left out with --recipe'),
        (['resnet.py'], 'a SwinTransformer as model.backbone, got default_scope=mmdet and backbone ResNet'),
    ],
)
def test_what_cannot_be_timed_is_refused(argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'resnet.py').write_text(
        f"_base_ = '{ROOT}/configs/{RECIPES[0]}.py'\nmodel = dict(backbone=dict(type='ResNet'))\n"
    )
    with pytest.raises(PreflightError, match=words):
        main(['--device', 'cpu', '--recipe', *argv])


def test_v2_is_timed_and_has_no_model_of_its_library_to_be_compared_with(tmp_path):
    config = tmp_path / 'v2.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/{RECIPES[0]}.py'\nmodel = dict(backbone=dict(type='swin_mm.SwinTransformerV2'))\n"
    )
    assert our_model(Config.fromfile(config)).backbone.__class__.__name__ == 'SwinTransformerV2'
    with pytest.raises(PreflightError, match=r'model\.backbone must be a SwinTransformer: mmdet has no V2'):
        main(['--device', 'cpu', '--model', str(config)])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('recipe', RECIPES)
def test_on_a_gpu_a_step_is_timed_and_its_blocks_are_compiled(recipe):
    argv = ['--rounds', '3', '--device', 'cuda', '--shape', '128x128', '--batch', '2', '--recipe', recipe]
    plain, fast = main(argv)['results'][0]['implementations'].values()
    assert (plain['compiling'], fast['caveat']) == (None, None)
    assert fast['compiling'] > fast['median'] > 0
    assert plain['memory'] > 0
    assert fast['difference'] < 0.1
