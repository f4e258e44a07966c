"""What a checkpoint is written in is told from its keys, whatever is around them; what cannot be told is refused."""

import numpy as np
import pytest
import torch
from libraries import SMALL
from torch import Tensor

from swin_mm import SwinTransformer
from swin_mm.checkpoints import DIALECTS, adapt, from_official, recognise, to_official, unwrap
from swin_mm.errors import CheckpointError

WINDOW = (7, 7)
PREFIXES = ['', 'module.', 'backbone.', 'module.backbone.', 'backbone.bottom_up.', 'model.backbone.bottom_up.', 'swin.']


@pytest.fixture
def own(make_swin) -> dict[str, Tensor]:
    return make_swin(seed=1).state_dict()


@pytest.fixture
def states(own) -> dict[str, dict[str, Tensor]]:
    """The same weights in every dialect; with the norms of maps where the dialect has such."""
    classifier = {key: value for key, value in own.items() if key[:4] != 'norm'}
    classifier |= {'norm.weight': torch.ones(64), 'norm.bias': torch.zeros(64)}
    return {name: from_official(own if dialect.map_norm else classifier, name) for name, dialect in DIALECTS.items()}


@pytest.mark.parametrize('prefix', PREFIXES)
@pytest.mark.parametrize('dialect', DIALECTS)
def test_every_dialect_loads_under_every_prefix(states, own, dialect, prefix):
    state = {prefix + key: value for key, value in states[dialect].items()}
    assert recognise(state) == dialect
    net = SwinTransformer(**SMALL)
    net.load_state_dict(state, strict=True)
    for key, value in net.state_dict().items():
        if key[:4] == 'norm' and not DIALECTS[dialect].map_norm:
            assert torch.equal(value, torch.full_like(value, float(key.endswith('weight'))))
        else:
            assert torch.equal(value, own[key]), key


@pytest.mark.parametrize('container', ['state_dict_ema', 'state_dict', 'model', 'model.state_dict'])
@pytest.mark.parametrize('dialect', ['official', 'timm', 'mmdet', 'hf'])
def test_containers_are_opened(states, own, dialect, container):
    checkpoint = {f'module.backbone.{key}': value for key, value in states[dialect].items()}
    for name in reversed(container.split('.')):
        checkpoint = {name: checkpoint, 'epoch': 3, 'optimizer': {'state': {}}, 'meta': {'env': 'x'}}
    state, prefix = unwrap(checkpoint)
    assert prefix == 'backbone.'
    assert {f'backbone.{key}' for key in states[dialect]} == state.keys()
    fitted, report = adapt(checkpoint, own, WINDOW)
    assert report.complete
    assert fitted.keys() == own.keys()


def test_an_averaged_model_comes_before_the_last_one(states, own):
    other = {key: value + 1 for key, value in own.items()}
    for averaged in (states['mmdet'], own):
        state, _ = unwrap({'state_dict': other, 'model': other, 'state_dict_ema': averaged})
        assert torch.equal(to_official(state)['norm0.bias'], own['norm0.bias'])


def test_numpy_arrays_of_detectron2_are_taken(own):
    arrays = {f'backbone.bottom_up.{key}': value.numpy() for key, value in own.items()}
    checkpoint = {'model': arrays, '__author__': 'third party', 'matching_heuristics': True, 'step': np.int64(3)}
    state, prefix = unwrap(checkpoint)
    assert prefix == 'backbone.bottom_up.'
    assert all(isinstance(value, Tensor) for value in state.values())
    SwinTransformer(**SMALL).load_state_dict(checkpoint, strict=True)


def test_timm_before_0_9_is_official_but_for_its_head(own):
    state = {key: value for key, value in own.items() if key[:4] != 'norm'}
    state |= {'head.fc.weight': torch.ones(5, 64), 'head.fc.bias': torch.ones(5), 'norm.weight': torch.ones(64)}
    assert recognise(state) == 'official'
    assert to_official(state)['head.weight'].shape == (5, 64)
    SwinTransformer(**SMALL).load_state_dict(state, strict=True)


@pytest.mark.parametrize('kind', ['SimMIM', 'MoBY'])
def test_pretraining_leaves_only_its_encoder(own, kind):
    state = {f'encoder.{key}': value for key, value in own.items() if key[:4] != 'norm'}
    state |= {'encoder.norm.weight': torch.ones(64), 'encoder.norm.bias': torch.ones(64)}
    if kind == 'SimMIM':
        state |= {'encoder.mask_token': torch.ones(1, 1, 8), 'decoder.0.weight': torch.ones(3, 64, 1, 1)}
    else:
        state |= {f'encoder_k.{key}': value + 1 for key, value in own.items()}
        state |= {'projector.linear1.weight': torch.ones(4, 64), 'queue1': torch.ones(2, 3)}
    net = SwinTransformer(**SMALL)
    net.load_state_dict({'model': state}, strict=True)
    for key, value in net.state_dict().items():
        assert key[:4] == 'norm' or torch.equal(value, own[key]), key
    assert to_official(state).keys() - own.keys() <= {'norm.weight', 'norm.bias', 'mask_token'}


@pytest.mark.parametrize('other', [name for name in DIALECTS if name != 'official'])
@pytest.mark.parametrize('one', DIALECTS)
def test_two_dialects_at_once_are_refused(states, one, other):
    if one == other:
        return
    mixed = {**states[one], **states[other]}
    with pytest.raises(CheckpointError, match=r'several dialects at once|several backbones'):
        recognise(mixed)
    with pytest.raises(CheckpointError, match=r'several dialects at once|several backbones'):
        SwinTransformer(**SMALL).load_state_dict(mixed, strict=False)


def test_two_backbones_are_refused(own):
    state = {f'{branch}.backbone.{key}': value for branch in ('teacher', 'student') for key, value in own.items()}
    with pytest.raises(CheckpointError, match=r'several backbones, pass one: .*teacher.backbone. .*student.backbone.'):
        recognise(state)


def test_official_without_a_clue_to_where_merging_stands_is_refused(own):
    state = {key: value for key, value in own.items() if not key.startswith('layers.0.downsample')}
    with pytest.raises(CheckpointError, match=r'neither layers.0.downsample nor layers.3.downsample'):
        recognise(state)


V2_ONLY = {
    'official': 'layers.0.blocks.0.attn.logit_scale',
    'mmpretrain': 'backbone.stages.0.blocks.0.attn.w_msa.cpb_mlp.0.weight',
    'SimMIM': 'encoder.layers.0.blocks.0.attn.rpe_mlp.0.weight',
    'hf': 'swinv2.encoder.layers.0.blocks.0.attention.self.logit_scale',
    'hf bias': 'swinv2.encoder.layers.0.blocks.0.attention.self.continuous_position_bias_mlp.0.weight',
}


@pytest.mark.parametrize('key', V2_ONLY.values(), ids=V2_ONLY)
def test_a_trace_of_version_2_is_refused_by_name(own, key):
    """Whether it stands in the backbone, as here, or is of another branch or dialect."""
    key = key.removeprefix('backbone.').removeprefix('encoder.')
    with pytest.raises(CheckpointError, match=r'of Swin V2 \(it holds |several dialects at once'):
        SwinTransformer(**SMALL).load_state_dict({**own, key: torch.ones(1)}, strict=False)


def test_other_networks_are_refused():
    resnet = pytest.importorskip('torchvision').models.resnet18().state_dict()
    for state in (resnet, {'state_dict': resnet}, {'layers.0.blocks.0.modulation.f.weight': torch.ones(1)}):
        with pytest.raises(CheckpointError, match='holds no block of a Swin Transformer in a known dialect'):
            SwinTransformer(**SMALL).load_state_dict(state, strict=False)
    with pytest.raises(CheckpointError, match='holds no tensors'):
        unwrap({'state_dict': {}, 'epoch': 3})
