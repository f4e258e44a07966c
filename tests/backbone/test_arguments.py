"""What the backbone can be told: stock names, aliases, presets, and a sentence for every broken rule."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import nn

from swin_mm import SwinTransformer
from swin_mm.backbone.arguments import ALIASES, ARCHS, Arguments

STOCK = ['mmdet.models.backbones.swin', 'mmseg.models.backbones.swin']
SMALL = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))


def stock_parameters(module: str) -> dict[str, inspect.Parameter]:
    """Parameters of OpenMMLab's class of the same name, without ``self``."""
    stock = pytest.importorskip(module).SwinTransformer
    return dict(list(inspect.signature(stock.__init__).parameters.items())[1:])


@pytest.mark.parametrize('module', STOCK)
def test_every_stock_argument_is_taken_under_its_name(module):
    for name, parameter in stock_parameters(module).items():
        SwinTransformer(**{**SMALL, name: SMALL.get(name, parameter.default)})


@pytest.mark.parametrize('module', STOCK)
def test_defaults_are_the_stock_ones(module):
    """A stock recipe that leaves an argument out means the stock default; activation and norm are compared as built."""
    stock, ours = stock_parameters(module), Arguments()
    assert set(stock) - {field.name for field in fields(Arguments)} == {'pretrained', 'init_cfg'}
    differs = {
        name: (parameter.default, getattr(ours, name))
        for name, parameter in stock.items()
        if name not in ('pretrained', 'init_cfg', 'act_cfg', 'norm_cfg', 'strides')
        and getattr(ours, name) not in (parameter.default, (parameter.default, parameter.default))
    }
    assert differs == {}
    options = ours.block_options(0)
    assert stock['act_cfg'].default == dict(type='GELU')
    assert stock['norm_cfg'].default == dict(type='LN')
    assert isinstance(options.act(), nn.GELU)
    assert options.norm(4).eps == 1e-5
    assert Arguments(strides=stock['strides'].default).patch_size == (4, 4)


def stock_configs(package: str) -> list[Path]:
    folder = Path(pytest.importorskip(package).__file__).parent / '.mim' / 'configs'
    return [path for path in sorted(folder.rglob('*.py')) if "'SwinTransformer'" in path.read_text()]


def backbones(node):
    """Every ``dict(type='SwinTransformer', ...)`` in a config."""
    if isinstance(node, dict):
        if node.get('type') == 'SwinTransformer':
            yield node
        for child in node.values():
            yield from backbones(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from backbones(child)


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_every_stock_swin_recipe_is_understood(package):
    from mmengine.config import Config

    found = 0
    for path in stock_configs(package):
        for backbone in backbones(Config.fromfile(path).to_dict()):
            given = {k: v for k, v in backbone.items() if k not in ('type', 'pretrained', 'init_cfg')}
            Arguments.parse(**given)
            found += 1
    assert found >= 5


def test_aliases_are_the_official_spellings():
    ours = Arguments.parse(embed_dim=48, in_chans=1, ape=True, use_checkpoint=True)
    assert ours == Arguments(embed_dims=48, in_channels=1, use_abs_pos_embed=True, with_cp=True)


@pytest.mark.parametrize(('alias', 'name'), ALIASES.items())
def test_an_alias_beside_its_name_raises(alias, name):
    value = getattr(Arguments(), name)
    with pytest.raises(TypeError, match=f'{alias} is another name of {name}: give one of the two'):
        Arguments.parse(**{alias: value, name: value})


@pytest.mark.parametrize('arch', ARCHS)
def test_arch_stands_for_three_numbers(arch):
    """Paper, section 3.3; heads are 32 wide throughout."""
    ours = Arguments.parse(arch)
    width, blocks = {'tiny': (96, 12), 'small': (96, 24), 'base': (128, 24), 'large': (192, 24)}[arch]
    assert (ours.embed_dims, sum(ours.depths)) == (width, blocks)
    assert all(ours.embed_dims * 2**i == 32 * heads for i, heads in enumerate(ours.num_heads))
    assert Arguments.parse(arch[0], window_size=12) == Arguments.parse(arch, window_size=12)


def test_arch_and_a_number_that_agrees_or_not():
    assert Arguments.parse('tiny', depths=[2, 2, 6, 2], embed_dim=96) == Arguments.parse('tiny')
    with pytest.raises(ValueError, match=r"arch='tiny' means depths=\(2, 2, 6, 2\), but depths=\[2, 2, 18, 2\] is"):
        Arguments.parse('tiny', depths=[2, 2, 18, 2])
    with pytest.raises(ValueError, match="arch='base' means embed_dims=128, but embed_dims=96 is"):
        Arguments.parse('base', embed_dim=96)
    with pytest.raises(ValueError, match=r"arch must be one of \['tiny', 'small', 'base', 'large'\].*'huge'"):
        Arguments.parse('huge')


def test_an_unknown_argument_raises_with_the_known_ones():
    with pytest.raises(TypeError, match=r"has no argument \['window_sice'\]; it has \['arch', .*'window_size'"):
        SwinTransformer(window_sice=7)


RULES = [
    (dict(depths=(2, 2, 6)), r'depths and num_heads .* as many stages, one or more, got \(2, 2, 6\), \(3, 6, 12, 24\)'),
    (dict(num_heads=(3, 6)), r'depths and num_heads .* as many stages, one or more, got \(2, 2, 6, 2\), \(3, 6\)'),
    (dict(depths=(), num_heads=()), r'depths and num_heads .* one or more, got \(\), \(\)'),
    (dict(depths=(1, 1), num_heads=(1, 2)), r'out_indices must be ascending stages from 0 to 1, .*\(0, 1, 2, 3\)'),
    (dict(depths=(2, 0, 6, 2)), r'depths must be at least 1 block a stage, got \(2, 0, 6, 2\)'),
    (dict(num_heads=(3, 5, 12, 24)), r'num_heads must divide .*stage 1 has width 192.*, got \(3, 5, 12, 24\)'),
    (dict(num_heads=(0, 6, 12, 24)), r'num_heads must divide .*, got \(0, 6, 12, 24\)'),
    (dict(in_channels=0), 'in_channels must be an int of at least 1, got 0'),
    (dict(embed_dims=-96), 'embed_dims must be an int of at least 1, got -96'),
    (dict(mlp_ratio=0), 'mlp_ratio must leave the MLP a channel, got 0'),
    (dict(depths=2), 'depths must be a tuple of ints, got 2'),
    (dict(out_indices=2), 'out_indices must be a tuple of ints, got 2'),
    (dict(strides=4), 'strides must be a tuple of ints, got 4'),
    (dict(norm_cfg='LN'), "norm_cfg must be a dict with a 'type', got LN"),
    (dict(norm_cfg=dict(type='init')), "norm_cfg type must be 'LN', .*, got init"),
    (dict(act_cfg={}), "act_cfg must be a dict with a 'type', got {}"),
    (dict(out_indices=()), r'out_indices must be ascending .*, got \(\)'),
    (dict(out_indices=(0, 4)), r'out_indices must be ascending .*, got \(0, 4\)'),
    (dict(out_indices=(2, 1)), r'out_indices must be ascending .*, got \(2, 1\)'),
    (dict(out_indices=(1, 1)), r'out_indices must be ascending .*, got \(1, 1\)'),
    (dict(frozen_stages=5), 'frozen_stages must be from -1 to 4, got 5'),
    (dict(frozen_stages=-2), 'frozen_stages must be from -1 to 4, got -2'),
    (dict(drop_rate=1.0), r'drop_rate must be in \[0, 1\), got 1.0'),
    (dict(attn_drop_rate=-0.1), r'attn_drop_rate must be in \[0, 1\), got -0.1'),
    (dict(drop_path_rate=1.5), r'drop_path_rate must be in \[0, 1\), got 1.5'),
    (dict(window_size=0), r'window_size must be an int of at least 1 or two \(height, width\), got 0'),
    (dict(window_size=(7, 7, 7)), r'window_size must be .*, got \(7, 7, 7\)'),
    (dict(patch_size=4.0), r'patch_size must be .*, got 4.0'),
    (dict(pretrain_img_size=(0, 224)), r'pretrain_img_size must be .*, got \(0, 224\)'),
    (dict(strides=(4, 2, 2, 1)), r'strides must be \(4, 2, 2, 2\), .*, got \(4, 2, 2, 1\)'),
    (dict(strides=(2, 2, 2, 2)), r'strides must be .* patch_size=\(4, 4\), got \(2, 2, 2, 2\)'),
    (dict(kernel='flash'), r"kernel must be one of \['auto', 'reference', .*\], got 'flash'"),
    (dict(norm_cfg=dict(type='Nope')), "norm_cfg type must be 'LN', .*, got Nope"),
    (dict(act_cfg=dict(type='Nope')), 'act_cfg type must be .*, got Nope'),
]


@pytest.mark.parametrize(('broken', 'sentence'), RULES, ids=lambda value: str(value) if isinstance(value, dict) else '')
def test_a_broken_rule_is_told_with_name_and_value(broken, sentence):
    with pytest.raises(ValueError, match=sentence):
        SwinTransformer(**broken)


def test_pretrained_is_the_older_spelling_of_init_cfg():
    assert SwinTransformer(**SMALL, pretrained='swin.pth').init_cfg == dict(type='Pretrained', checkpoint='swin.pth')
    assert SwinTransformer(**SMALL).init_cfg is None
    with pytest.raises(ValueError, match='pretrained and init_cfg must not be given together'):
        SwinTransformer(**SMALL, pretrained='swin.pth', init_cfg=dict(type='Pretrained', checkpoint='swin.pth'))
    with pytest.raises(TypeError, match='pretrained must be a path or URL, got 123'):
        SwinTransformer(**SMALL, pretrained=123)


def test_sizes_are_pairs_height_first():
    net = SwinTransformer(**SMALL, window_size=(4, 6), patch_size=[2, 4])
    assert net.layers[0].blocks[1].attn.window == (4, 6)
    assert net.layers[0].blocks[1].attn.shift == (2, 3)
    assert [tuple(m.shape[2:]) for m in net(torch.zeros(1, 3, 32, 32))] == [(16, 8), (8, 4), (4, 2), (2, 1)]


def test_norm_and_activation_are_those_asked_for():
    net = SwinTransformer(**SMALL, norm_cfg=dict(type='LN', eps=1e-6, requires_grad=False), act_cfg=dict(type='ReLU'))
    norms = [module for module in net.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 1 + 8 * 2 + 3 + 4
    assert all(norm.eps == 1e-6 and not norm.weight.requires_grad for norm in norms)
    assert isinstance(net.layers[2].blocks[0].mlp.act, nn.ReLU)
    assert isinstance(Arguments(act_cfg=dict(type=nn.SiLU)).block_options(0).act(), nn.SiLU)


def test_a_registered_norm_serves_too():
    from swin_mm.registry import MODELS

    @MODELS.register_module(name='TestOnlyNorm')
    class Norm(nn.LayerNorm):
        pass

    try:
        assert isinstance(Arguments(norm_cfg=dict(type='TestOnlyNorm')).block_options(0).norm(4), Norm)
    finally:
        MODELS.module_dict.pop('TestOnlyNorm')


def test_options_reach_every_block():
    net = SwinTransformer(**SMALL, qkv_bias=False, qk_scale=0.3, drop_rate=0.1, attn_drop_rate=0.2, mlp_ratio=3.5)
    for stage in net.layers:
        for block in stage.blocks:
            assert block.attn.qkv.bias is None
            assert (block.attn.scale, block.attn.attn_drop) == (0.3, 0.2)
            assert (block.attn.proj_drop.p, block.mlp.drop.p) == (0.1, 0.1)
            assert block.mlp.fc1.out_features == int(3.5 * block.mlp.fc1.in_features)
    assert net.pos_drop.p == 0.1
