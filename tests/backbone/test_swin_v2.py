"""The V2 backbone: torchvision's and timm's as oracles, and the contract that it shares with V1."""

import copy
import doctest
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_mm import SwinTransformerV2
from swin_mm.backbone import swin_v2 as backbone
from swin_mm.backbone.arguments_v2 import ArgumentsV2
from swin_mm.backbone.swin_v2 import PatchMergingV2, SwinBlockV2

TINY = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))


def torchvision_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` under torchvision's names; its bias of the qkv layer has a third for keys that is never used."""
    result = {}
    for key, value in state.items():
        if key.startswith('norm') or key.endswith('v_bias'):
            continue
        name = key.replace('patch_embed.proj', 'features.0.0').replace('patch_embed.norm', 'features.0.2')
        name = re.sub(r'layers\.(\d)\.blocks', lambda m: f'features.{2 * int(m[1]) + 1}', name)
        name = re.sub(r'layers\.(\d)\.downsample', lambda m: f'features.{2 * int(m[1]) + 2}', name)
        name = name.replace('mlp.fc1', 'mlp.0').replace('mlp.fc2', 'mlp.3')
        if key.endswith('q_bias'):
            value = torch.cat([value, torch.ones_like(value), state[key.replace('q_bias', 'v_bias')]])
        result[name.replace('q_bias', 'qkv.bias')] = value
    return result


def timm_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` under timm's names, where patch merging starts a stage."""
    later = re.compile(r'layers\.(\d)\.downsample')
    state = {key: value for key, value in state.items() if not key.startswith('norm')}
    return {later.sub(lambda m: f'layers.{int(m[1]) + 1}.downsample', key): value for key, value in state.items()}


def build_torchvision(ours: SwinTransformerV2) -> nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    a = ours.arguments
    kinds = dict(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)
    sizes = ([4, 4], a.embed_dims, list(a.depths), list(a.num_heads), list(a.window_size[0]))
    net = SwinTransformer(*sizes, stochastic_depth_prob=0.0, num_classes=1, **kinds)
    missing, unexpected = net.load_state_dict(torchvision_state(ours.state_dict()), strict=False)
    derived = ('relative_position_index', 'relative_coords_table')
    assert [key for key in missing if not key.endswith(derived) and not key.startswith(('norm.', 'head.'))] == []
    assert unexpected == []
    return net.eval()


def torchvision_maps(net: nn.Module, image: Tensor) -> list[Tensor]:
    maps = []
    for i, layer in enumerate(net.features):
        image = layer(image)
        if i % 2:
            maps.append(image)
    return maps


def timm_maps(ours: SwinTransformerV2, image: Tensor) -> list[Tensor]:
    timm = pytest.importorskip('timm.models.swin_transformer_v2', reason='timm is an oracle: pip install timm')
    a = ours.arguments
    arch = dict(embed_dim=a.embed_dims, depths=a.depths, num_heads=a.num_heads, window_size=a.window_size[0])
    pretrained = [max(sides) for sides in a.pretrained_window_sizes]
    net = timm.SwinTransformerV2(image.shape[2:], **arch, num_classes=1, pretrained_window_sizes=pretrained)
    missing, unexpected = net.load_state_dict(timm_state(ours.state_dict()), strict=False)
    assert [key for key in missing if not key.startswith(('norm.', 'head.'))] == []
    assert unexpected == []
    maps = net.eval().forward_intermediates(image, output_fmt='NCHW', intermediates_only=True)
    return [m.permute(0, 2, 3, 1) for m in maps]


def normed(ours: SwinTransformerV2, tokens: list[Tensor]) -> list[Tensor]:
    """Their maps behind our output norms, which they lack."""
    return [getattr(ours, f'norm{i}')(x).permute(0, 3, 1, 2) for i, x in enumerate(tokens)]


def assert_maps_equal(got, want, tolerance: float = 1e-5) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_maps_equal_torchvisions_and_timms(make_swin_v2):
    """512 pixels and a window of 8: every map is larger than a window, so that they shift as dense models do."""
    net, image = make_swin_v2().eval(), torch.randn(1, 3, 512, 512)
    maps = net(image)
    for theirs in (torchvision_maps(build_torchvision(net), image), timm_maps(net, image)):
        assert_maps_equal(maps, normed(net, theirs))


@torch.no_grad()
def test_pretrained_windows_are_timms(make_swin_v2):
    net = make_swin_v2(window_size=12, pretrained_window_sizes=[6, 6, 6, 3]).eval()
    image = torch.randn(1, 3, 768, 768)
    assert_maps_equal(net(image), normed(net, timm_maps(net, image)))


def test_gradients_equal_torchvisions(make_swin_v2):
    """Of the image and of every parameter, at a size where the second map has odd sides and windows are padded."""
    arch = dict(embed_dims=8, depths=(2, 2), num_heads=(1, 2), out_indices=(0, 1), drop_path_rate=0.0)
    ours = make_swin_v2(**arch).double().train()
    theirs = build_torchvision(ours).double().train()
    image, found = torch.randn(2, 3, 84, 140, dtype=torch.float64), []
    for net, maps_of in ((ours, ours), (theirs, lambda x: normed(ours, torchvision_maps(theirs, x)))):
        ours.zero_grad()
        leaf = image.clone().requires_grad_()
        maps = maps_of(leaf)
        sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view_as(m)).sum() for m in maps).backward()
        state = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        found.append((leaf.grad, torchvision_state(state) if net is ours else state))
    (image_grad, got), (wanted_image, want) = found
    torch.testing.assert_close(image_grad, wanted_image, rtol=1e-9, atol=1e-9)
    assert got.keys() == want.keys()
    for name in want:
        if name.endswith('qkv.bias'):
            got[name].chunk(3)[1].zero_()  # torchvision_state puts ones there
        torch.testing.assert_close(got[name], want[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('size', [(224, 224), (223, 223), (1, 1), (3, 5), (7, 200), (112, 137)])
@pytest.mark.parametrize('kernel', ['auto', 'reference', 'sdpa', 'cpu'])
def test_any_size_gives_maps_of_strides_4_to_32_with_every_kernel(make_swin_v2, size, kernel):
    image = torch.randn(2, 3, *size)
    maps = make_swin_v2(kernel=kernel).eval()(image)
    with torch.no_grad():
        assert_maps_equal(maps, make_swin_v2(kernel='reference').eval()(image), 1e-4)
    sides = [math.ceil(side / 4) for side in size]
    for i, m in enumerate(maps):
        assert m.shape == (2, 8 * 2**i, *sides)
        sides = [math.ceil(side / 2) for side in sides]


@pytest.mark.parametrize('size', [(9, 12), (8, 8), (1, 3)])
def test_patch_merging_normalises_the_new_tokens(size):
    merging = PatchMergingV2(4, nn.LayerNorm)
    nn.init.normal_(merging.norm.weight)
    x = torch.randn(2, *size, 4)
    even = merging.gather(F.pad(x, (0, 0, 0, size[1] % 2, 0, size[0] % 2)))
    want = F.layer_norm(merging.reduction(even), (8,), merging.norm.weight, merging.norm.bias)
    torch.testing.assert_close(merging(x), want)
    with torch.no_grad():
        torch.testing.assert_close(merging(x), want)


def make_block(shift=(0, 0), drop_path=0.0, **options) -> SwinBlockV2:
    block = SwinBlockV2(8, 2, shift, drop_path, ArgumentsV2(window_size=4, **options).block_options(0))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def test_a_block_adds_nothing_at_first():
    block, x = SwinBlockV2(8, 2, (0, 0), 0.0, ArgumentsV2().block_options(0)), torch.randn(2, 9, 9, 8)
    assert torch.equal(block(x), x)
    with torch.no_grad():
        assert torch.equal(block.eval()(x), x)
    net = SwinTransformerV2(**TINY)
    zero = {name for name, p in net.named_parameters() if re.search(r'blocks.*norm\d\.', name) and not p.any()}
    assert len(zero) == 4 * 8
    assert all(m.weight.all() for m in (net.patch_embed.norm, net.norm3, net.layers[0].downsample.norm))


def test_drop_path_drops_what_the_norm_gives():
    """Behind the norm: a dropped branch adds nothing, and a kept one is scaled."""
    block, x = make_block(drop_path=0.5).train(), torch.randn(64, 4, 4, 8)
    block.norm2.requires_grad_(False).weight.zero_()
    block.norm2.bias.zero_()
    added = (block(x) - x).flatten(1)
    kept = added.any(dim=1)
    assert 15 < kept.sum() < 49
    want = 2 * block.norm1(block.attn(x)).flatten(1)
    torch.testing.assert_close(added[kept], want[kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('stages', range(-1, 5))
def test_freezing_is_that_of_v1(make_swin_v2, stages):
    net = make_swin_v2(frozen_stages=stages, drop_path_rate=0.0).train()
    frozen = (
        () if stages < 0 else ('patch_embed.', *(f'{name}{i}.' for i in range(stages) for name in ('layers.', 'norm')))
    )
    assert {n for n, p in net.named_parameters() if not p.requires_grad} == {
        n for n, _ in net.named_parameters() if n.startswith(frozen)
    }
    assert all(not net.layers[i].training for i in range(stages))
    if stages < 4:
        sum(m.square().sum() for m in net(torch.randn(2, 3, 61, 70))).backward()
        assert [n for n, p in net.named_parameters() if (p.grad is not None) != p.requires_grad] == []


@pytest.mark.parametrize('rate', [0.0, 0.5])
def test_checkpointing_changes_no_number(make_swin_v2, rate):
    image, results = torch.randn(3, 3, 61, 70), []
    for with_cp in (False, True):
        net = make_swin_v2(with_cp=with_cp, drop_rate=rate, attn_drop_rate=rate, drop_path_rate=rate).train()
        torch.manual_seed(1)
        maps = net(image)
        results.append([*maps, *torch.autograd.grad(sum(m.square().sum() for m in maps), list(net.parameters()))])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_names_are_the_official_ones():
    """``models/swin_transformer_v2.py``, but for its derived buffers and the norms of maps."""
    attention = ['logit_scale', 'q_bias', 'v_bias', 'cpb_mlp.0.weight', 'cpb_mlp.0.bias', 'cpb_mlp.2.weight']
    attention += ['qkv.weight', 'proj.weight', 'proj.bias']
    block = [f'attn.{name}' for name in attention]
    block += [f'{layer}.{kind}' for layer in ('norm1', 'norm2', 'mlp.fc1', 'mlp.fc2') for kind in ('weight', 'bias')]
    want = [f'patch_embed.{layer}.{kind}' for layer in ('proj', 'norm') for kind in ('weight', 'bias')]
    want += [f'layers.{i}.blocks.{j}.{name}' for i in range(4) for j in range(2) for name in block]
    names = ('norm.weight', 'norm.bias', 'reduction.weight')
    want += [f'layers.{i}.downsample.{name}' for i in range(3) for name in names]
    want += [f'norm{i}.{kind}' for i in range(4) for kind in ('weight', 'bias')]
    net = SwinTransformerV2(**TINY)
    assert sorted(net.state_dict()) == sorted(want)
    assert net.layers[1].downsample.norm.weight.shape == (32,)
    net.load_state_dict(net.state_dict(), strict=True)


@pytest.mark.parametrize(
    ('given', 'windows'),
    [
        ({}, [(8, 8)] * 4),
        (dict(window_size=16), [(16, 16)] * 4),
        (dict(window_size=(4, 6)), [(4, 6)] * 4),
        (dict(window_size=[16, 16, 16, 8]), [(16, 16)] * 3 + [(8, 8)]),
        (dict(window_size=[(4, 6), 8, 8, [2, 3]]), [(4, 6), (8, 8), (8, 8), (2, 3)]),
    ],
    ids=str,
)
def test_windows_of_stages(given, windows):
    net = SwinTransformerV2(**TINY, **given)
    attentions = [[block.attn for block in stage.blocks] for stage in net.layers]
    assert [stage[0].window for stage in attentions] == windows
    assert [stage[1].shift for stage in attentions] == [(h // 2, w // 2) for h, w in windows]
    assert all(stage[0].shift == (0, 0) for stage in attentions)


def test_pretrained_windows_of_stages_are_the_unit_of_offsets():
    arguments = dict(window_size=[24, 24, 24, 12], pretrained_window_sizes=[12, 12, 12, 6])
    tables = [s.blocks[0].attn.relative_coords_table for s in SwinTransformerV2(**TINY, **arguments).layers]
    sides = [(24, 12)] * 3 + [(12, 6)]
    want = [math.log2(8 * (window - 1) / (trained - 1) + 1) / 3 for window, trained in sides]
    assert [table.max().item() for table in tables] == pytest.approx(want)


@pytest.mark.parametrize(
    ('given', 'error', 'words'),
    [
        (dict(window_size=[8, 8, 8]), ValueError, 'window_size must have one entry for each of 4 stages, got'),
        (dict(window_size=[8, 8, 8, 0]), ValueError, 'window_size must be an int of at least 1 or two .*, got 0'),
        (dict(pretrained_window_sizes=-1), ValueError, 'pretrained_window_sizes must be an int of at least 0 .* -1'),
        (dict(qk_scale=0.5), ValueError, 'qk_scale must be None: V2 learns a scale for each head, got 0.5'),
        (
            dict(window=7),
            TypeError,
            r"SwinTransformerV2 has no argument \['window'\]; it has .*'pretrained_window_sizes",
        ),
    ],
    ids=str,
)
def test_arguments_that_break_a_rule(given, error, words):
    with pytest.raises(error, match=words):
        SwinTransformerV2(**TINY, **given)


def test_architectures_have_the_published_sizes():
    """Parameters of Microsoft's MODELHUB.md (28M, 50M, 88M, 197M) without the head, and with norms of maps."""
    heads = dict(tiny=768, small=768, base=1024, large=1536)
    published = dict(tiny=28, small=50, base=88, large=197)
    for arch, width in heads.items():
        with torch.device('meta'):
            net = SwinTransformerV2(arch=arch)
        count = sum(p.numel() for n, p in net.named_parameters() if not re.match(r'norm[012]', n)) + 1001 * width
        assert abs(count / 1e6 - published[arch]) < 0.8, arch


def test_it_is_built_from_a_config():
    from mmengine.registry import MODELS

    net = MODELS.build(dict(type='swin_mm.SwinTransformerV2', arch='tiny', out_indices=[1, 2]))
    assert type(net) is SwinTransformerV2
    assert net.out_channels == [192, 384]


@pytest.mark.parametrize(('dtype', 'limit'), [(torch.bfloat16, 0.15), (torch.float16, 0.03)], ids=str)
@pytest.mark.parametrize('grad', [True, False], ids=['gradient', 'inference'])
def test_weights_of_sixteen_bits(make_swin_v2, dtype, limit, grad):
    """``limit``: error in standard deviations of the map."""
    net = make_swin_v2().eval().to(dtype)
    image = torch.randn(1, 3, 112, 137).to(dtype)
    exact = copy.deepcopy(net).double()(image.double())
    with torch.set_grad_enabled(grad):
        maps = net(image)
    for got, want in zip(maps, exact, strict=True):
        assert got.dtype == dtype
        assert (got.double() - want).abs().max() < limit * want.std()


@pytest.mark.parametrize('kernel', ['auto', 'reference', 'sdpa'])
def test_training_under_autocast(make_swin_v2, kernel):
    net, image = make_swin_v2(kernel=kernel, drop_path_rate=0.0).train(), torch.randn(2, 3, 64, 90)
    exact = [m.detach() for m in net(image)]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        maps = net(image)
    for got, want in zip(maps, exact, strict=True):
        assert (got.float() - want).abs().max() < 0.2 * want.std()
        assert not torch.equal(got.float(), want), 'nothing was computed in bfloat16'
    sum(m.float().square().sum() for m in maps).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


def test_the_example_in_the_docstring():
    result = doctest.testmod(backbone, extraglobs=dict(torch=torch))
    assert result.attempted >= 2
    assert result.failed == 0
