"""What explains a model is right where it can be known: by formula, by brute force, and by NumPy."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, picture, save_checkpoint

from swin_mm.commands import explain as command
from swin_mm.errors import PreflightError
from swin_mm.explain import View, attention_of, receptive_fields, see
from swin_mm.inference import Detector, Segmentor

META = {'classes': CLASSES, 'palette': PALETTE}
DETECTOR = CONFIG.with_name('mask_rcnn_swin_pico_shapes.py')


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory):
    file = tmp_path_factory.mktemp('explain') / 'pico.pth'
    return Segmentor(CONFIG, save_checkpoint(file, Config.fromfile(CONFIG), dataset_meta=META), device='cpu')


def view_of(image: torch.Tensor) -> View:
    pixels = np.zeros((*image.shape[2:], 3), np.uint8)
    return View(pixels, image, [], tuple(image.shape[2:]))


@pytest.mark.parametrize('kernel', ['auto', 'reference', 'sdpa', 'cpu'])
def test_attention_is_the_softmax_inside_of_the_window_of_a_block_and_nothing_elsewhere(make_swin, kernel):
    net = make_swin(window_size=4, kernel=kernel).double().eval()
    view = view_of(torch.randn(1, 3, 64, 64).double())
    found = attention_of(net, view, (21.0, 30.0))
    assert [(a.stage, a.block, a.shifted) for a in found[:2]] == [(0, 0, False), (0, 1, True)]
    first, shifted = found[:2]
    assert first.token == (7, 5)

    block = net.layers[0].blocks[0]
    attn = block.attn
    tokens = block.norm1(net.patch_embed(view.inputs))[0, 4:8, 4:8].flatten(0, 1)  # the window of token (7, 5)
    q, k, _ = attn.qkv(tokens).unflatten(-1, (3, attn.num_heads, -1)).permute(1, 2, 0, 3)
    scores = q @ k.transpose(1, 2) * attn.scale + attn.bias()
    torch.testing.assert_close(first.weights[:, 4:8, 4:8], scores.softmax(-1)[:, 3 * 4 + 1].unflatten(1, (4, 4)))
    outside = first.weights.clone()
    outside[:, 4:8, 4:8] = 0
    assert not outside.any()
    assert shifted.weights[:, 6:10, 2:6].sum() == pytest.approx(attn.num_heads)  # two tokens down and right


def test_what_is_missing_from_the_weights_falls_on_padding(make_swin):
    net = make_swin(window_size=7).double().eval()
    found = attention_of(net, view_of(torch.randn(1, 3, 40, 56).double()), (3.0, 35.0))
    assert (found[0].weights.sum((1, 2)) < 0.9).all()  # 10 rows of tokens: the second window has 3 of 7
    whole = attention_of(net, view_of(torch.randn(1, 3, 28, 28).double()), (1, 1))
    torch.testing.assert_close(whole[0].weights.sum((1, 2)), torch.ones(1).double())


def test_a_receptive_field_is_zero_where_and_only_where_a_pixel_changes_nothing(make_swin):
    net = make_swin(window_size=2, depths=(1, 1), num_heads=(1, 2), out_indices=(0, 1)).double().eval()
    image = torch.randn(1, 3, 32, 32).double()
    fields = receptive_fields(net, view_of(image), (13.0, 9.0))
    places = [(9 // 4, 13 // 4), (9 // 8, 13 // 8)]
    before = net(image)
    for y, x in [(0, 0), (3, 11), (7, 15), (8, 8), (15, 15), (16, 3), (31, 31), (12, 18)]:
        changed = image.clone()
        changed[..., y, x] += 1e-3
        for field, was, now, (row, column) in zip(fields, before, net(changed), places, strict=True):
            moved = bool((now - was)[0, :, row, column].any())
            assert bool(field[y, x] > 0) == moved
    assert all(field.max() == 1 for field in fields)


@pytest.mark.parametrize('stage', [0, 2])
def test_activation_maps_are_those_of_their_papers(segmentor, stage):
    pytest.importorskip('pytorch_grad_cam')
    from swin_mm.explain import activation_map, best_class

    view = see(segmentor, picture(90, 130))
    label = best_class(segmentor, view)
    model = segmentor.model
    with torch.enable_grad():
        maps = model.backbone(view.inputs)
        logits = model.decode_head.predict(maps, [s.metainfo for s in view.samples], model.test_cfg)[0]
        assert int(logits.argmax(0).flatten().bincount().argmax()) == label
        score = logits[label][logits.argmax(0) == label].sum() / logits[0].numel()
        (gradient,) = torch.autograd.grad(score, maps[stage])
    values = maps[stage].detach()[0]
    weighted = (gradient[0].mean((1, 2))[:, None, None] * values).sum(0)
    heat = activation_map(segmentor, view, 'grad-cam', stage)
    np.testing.assert_allclose(heat, stretched(weighted, view), atol=2e-5)

    centred = values.flatten(1).T - values.flatten(1).T.mean(0)
    principal = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).view(values.shape[1:])
    heat = activation_map(segmentor, view, 'eigen-cam', stage)
    assert any(np.allclose(heat, stretched(sign * principal, view), atol=2e-4) for sign in (1, -1))


def stretched(small: torch.Tensor, view: View) -> np.ndarray:
    """The positive part, from 0 to 1, at the size of the network's image."""
    small = small.relu().numpy()
    small = (small - small.min()) / (small.max() - small.min() + 1e-7)
    large = cv2.resize(small, tuple(view.inputs.shape[:1:-1]))
    return (large - large.min()) / (large.max() - large.min() + 1e-7)


def test_heat_lands_on_the_pixels_that_it_is_about(segmentor):
    view = see(segmentor, picture(90, 130))
    row, column = view.place((100.0, 50.0), (4, 4))
    weights = np.zeros([-(-side // 4) for side in view.inputs.shape[2:]], np.float32)
    weights[row, column] = 1
    heat = view.tokens_on_image(weights, (4, 4))
    assert heat.shape == (90, 130)
    assert heat[50, 100] == heat.max() > 0.5
    with pytest.raises(ValueError, match=r'point must be inside of the image of 130x90 pixels, got \(130, 0\)'):
        view.place((130, 0), (4, 4))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """An image, and checkpoints of untrained models of both tasks."""
    folder = tmp_path_factory.mktemp('files')
    cv2.imwrite(str(folder / 'image.png'), picture(90, 130))
    save_checkpoint(folder / 'segmentor.pth', Config.fromfile(CONFIG), dataset_meta=META)
    cfg = Config.fromfile(DETECTOR)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'detector.pth')
    return folder


@pytest.mark.parametrize('config', [CONFIG, DETECTOR], ids=lambda path: path.stem)
def test_the_command_writes_a_sheet_for_each_question(files, tmp_path, capsys, config):
    pytest.importorskip('pytorch_grad_cam')
    name = 'segmentor' if config == CONFIG else 'detector'
    words = [
        files / 'image.png',
        config,
        files / f'{name}.pth',
        '--out',
        tmp_path,
        '--device',
        'cpu',
        '--point',
        '30',
        '40',
    ]
    classes = Segmentor if config == CONFIG else Detector
    chosen = classes(config, files / f'{name}.pth', device='cpu').classes[1]
    assert command.main([*map(str, words), '--class', chosen, '--point', '30', '40']) == 0
    sheets = ['activation', *[f'attention_stage{i}' for i in (1, 2, 3, 4)], 'receptive_field']
    assert capsys.readouterr().out.split() == [str(tmp_path / f'{sheet}.png') for sheet in sheets]
    for sheet in sheets:
        drawn = cv2.imread(str(tmp_path / f'{sheet}.png'))
        assert drawn.shape[1] > 600
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 500


@pytest.mark.parametrize(
    ('flags', 'reason'),
    [
        (['--class', 'cat'], '--class must be one of .*, got cat'),
        (['--point', '130', '5'], r'point must be inside of the image of 130x90 pixels, got \(130, 5\)'),
    ],
    ids=['class', 'point'],
)
def test_the_command_refuses_before_it_draws(files, tmp_path, flags, reason):
    words = [files / 'image.png', CONFIG, files / 'segmentor.pth', '--out', tmp_path / 'out', *flags]
    with pytest.raises(PreflightError, match=reason):
        command.main(list(map(str, words)))
    assert not (tmp_path / 'out').exists()


def test_the_missing_package_is_named(segmentor, monkeypatch):
    from swin_mm.explain import activation_map

    monkeypatch.setitem(__import__('sys').modules, 'pytorch_grad_cam', None)
    with pytest.raises(PreflightError, match='pip install --no-deps grad-cam'):
        activation_map(segmentor, see(segmentor, picture(90, 130)), 'grad-cam')
