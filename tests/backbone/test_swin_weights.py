"""Parameters: how many, how they start, what a checkpoint holds and what may be loaded."""

import copy

import pytest
import torch
from torch import nn

from swin_mm import SwinTransformer

COUNTS = {'tiny': 27_520_698, 'small': 48_838_602, 'base': 86_745_016, 'large': 194_998_164}
# Entries of the official detection backbone's state dict, of which one a block is a derived index.
ENTRIES = {'tiny': 189 - 12, 'small': 357 - 24, 'base': 357 - 24, 'large': 357 - 24}


@pytest.mark.parametrize('arch', COUNTS)
def test_number_of_parameters_is_the_official_one(arch):
    with torch.device('meta'):
        net = SwinTransformer(arch)
    assert sum(p.numel() for p in net.parameters()) == COUNTS[arch]
    assert len(net.state_dict()) == ENTRIES[arch]


def test_weights_start_as_the_official_ones():
    """Official ``SwinTransformer.init_weights``, from construction on; ``init_weights()`` draws nothing anew."""
    net = SwinTransformer(embed_dims=32, num_heads=(1, 2, 4, 8), use_abs_pos_embed=True)
    before = copy.deepcopy(net.state_dict())
    net.init_weights()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.bias is None or (module.bias == 0).all()
    tables = [value.flatten() for name, value in net.named_parameters() if 'table' in name or 'absolute' in name]
    assert torch.cat(tables).std().item() == pytest.approx(0.02, rel=0.05)
    assert net.patch_embed.proj.weight.std() > 0.05, 'the convolution starts as PyTorch does it'


def test_round_trip_is_bitwise(make_swin, tmp_path):
    net, other = make_swin(seed=1, use_abs_pos_embed=True), make_swin(seed=2, use_abs_pos_embed=True)
    torch.save(net.state_dict(), tmp_path / 'swin.pth')
    other.load_state_dict(torch.load(tmp_path / 'swin.pth', weights_only=True), strict=True)
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    image = torch.randn(1, 3, 61, 70)
    assert all(torch.equal(a, b) for a, b in zip(net.eval()(image), other.eval()(image), strict=True))


def test_a_checkpoint_holds_parameters_and_nothing_derived(make_swin):
    net = make_swin(use_abs_pos_embed=True)
    net(torch.randn(1, 3, 61, 70))
    assert list(net.state_dict()) == [name for name, _ in net.named_parameters()]


def classification_checkpoint(net: SwinTransformer) -> dict[str, torch.Tensor]:
    """The keys of an official ImageNet file: derived buffers, one norm, a head; no output norms.

    Microsoft's releases hold them under ``model``.
    """
    state = {name: torch.randn_like(value) for name, value in net.state_dict().items() if name[:4] != 'norm'}
    width = net.out_channels[-1]
    state |= {'norm.weight': torch.randn(width), 'norm.bias': torch.randn(width)}
    state |= {'head.weight': torch.randn(10, width), 'head.bias': torch.randn(10)}
    for i, stage in enumerate(net.layers):
        for j in range(len(stage.blocks)):
            state[f'layers.{i}.blocks.{j}.attn.relative_position_index'] = torch.zeros(49, 49, dtype=torch.int64)
        if i < 3:
            state[f'layers.{i}.blocks.1.attn_mask'] = torch.zeros(4, 49, 49)
    return state


@pytest.mark.parametrize('container', ['flat', 'state_dict', 'model'])
def test_an_official_classification_file_loads_through_init_cfg(tmp_path, container):
    small = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))
    state = classification_checkpoint(SwinTransformer(**small))
    torch.save(state if container == 'flat' else {container: state}, tmp_path / 'swin.pth')
    path = str(tmp_path / 'swin.pth')
    for source in (dict(init_cfg=dict(type='Pretrained', checkpoint=path)), dict(pretrained=path)):
        net = SwinTransformer(**small, **source)
        net.init_weights()
        for name, value in net.state_dict().items():
            if name.startswith('norm'):  # the file's `norm` is not the last map's: published detectors started at one
                assert torch.equal(value, torch.full_like(value, float(name.endswith('weight'))))
            else:
                assert torch.equal(value, state[name]), name


def test_what_a_classifier_has_more_passes_a_strict_load(make_swin):
    net = make_swin(seed=1)
    state = {**classification_checkpoint(net), **net.state_dict()}
    given = dict(state)
    make_swin(seed=2).load_state_dict(state, strict=True)
    assert state.keys() == given.keys(), "the caller's dictionary is not changed"


@pytest.mark.parametrize('out_indices', [(0,), (1, 2), (0, 3)], ids=str)
def test_a_full_checkpoint_serves_fewer_maps(make_swin, out_indices):
    full, net = make_swin(seed=1), make_swin(seed=2, out_indices=out_indices)
    net.load_state_dict(full.state_dict(), strict=True)
    image = torch.randn(1, 3, 61, 70)
    maps = full.eval()(image)
    for m, i in zip(net.eval()(image), out_indices, strict=True):
        assert torch.equal(m, maps[i])


@pytest.mark.parametrize('key', ['layers.0.blocks.0.attn.qkv.weight', 'norm3.bias', 'patch_embed.proj.bias'])
def test_a_missing_weight_is_not_passed_over(make_swin, key):
    net = make_swin()
    state = net.state_dict()
    del state[key]
    with pytest.raises(RuntimeError, match=f'Missing key.*{key}'):
        net.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*layers\.9\.x'):
        net.load_state_dict({**net.state_dict(), 'layers.9.x': torch.zeros(1)})


def test_loading_works_inside_a_detector_and_after_a_copy(make_swin):
    """The rewriting hook sees the prefix, and a deep copy (an EMA model) has a hook of its own."""
    model = nn.ModuleDict(dict(backbone=make_swin(seed=1, out_indices=(1,)), neck=nn.Linear(1, 1)))
    full = {f'backbone.{name}': value for name, value in make_swin(seed=3).state_dict().items()}
    full |= {'neck.weight': torch.ones(1, 1), 'neck.bias': torch.ones(1)}
    for target in (model, copy.deepcopy(model)):
        target.load_state_dict(full, strict=True)
        for name, value in target.state_dict().items():
            assert torch.equal(value, full[name])


def test_absolute_position_embedding_serves_any_size(make_swin):
    """It is resized to the map, not the map to it; at the size of pretraining it is added as it is."""
    net = make_swin(use_abs_pos_embed=True, pretrain_img_size=(32, 48)).eval()
    assert net.absolute_pos_embed.shape == (1, 8, 8, 12)
    plain = make_swin().eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k != 'absolute_pos_embed'})
    image = torch.randn(1, 3, 32, 48)
    tokens = net.patch_embed(image)
    seen = []
    net.layers[0].blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(image)
    assert torch.equal(seen[0], tokens + net.absolute_pos_embed.permute(0, 2, 3, 1))
    assert not torch.equal(net(image)[0], plain(image)[0])
    for size in [(61, 70), (4, 4), (96, 32)]:
        assert all(m.isfinite().all() for m in net(torch.randn(1, 3, *size)))
    net.absolute_pos_embed.data.fill_(0.5)  # a constant stays one, whatever the size
    net(torch.zeros(1, 3, 61, 70))
    torch.testing.assert_close(seen[-1], net.patch_embed(torch.zeros(1, 3, 61, 70)) + 0.5)
