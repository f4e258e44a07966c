"""Swin Transformer V2: every library's names and layouts become Microsoft's, and go back bitwise."""

import pytest
import torch
from libraries import LIBRARIES_V2, SMALL, hugging_face, microsoft_v2, random_net, randomized, written
from torch import Tensor

from swin_mm.backbone.arguments import ARCHS
from swin_mm.checkpoints import DIALECTS_V2, from_official, recognise, to_official, unwrap
from swin_mm.errors import CheckpointError

DERIVED = ('relative_coords_table', 'relative_position_index', 'attn_mask')
OTHERS = [name for name in DIALECTS_V2 if name != 'official']


def same(got: dict[str, Tensor], want: dict[str, Tensor]) -> bool:
    return got.keys() == want.keys() and all(
        got[key].dtype == want[key].dtype and torch.equal(got[key], want[key]) for key in want
    )


def plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith(DERIVED)}


def backbone() -> dict[str, Tensor]:
    """Microsoft's file without its head, in official names."""
    return {key: value for key, value in to_official(microsoft_v2(**SMALL)).items() if key[:4] != 'head'}


def state_of(library: str, arch: dict) -> dict[str, Tensor]:
    """As trained: where torchvision keeps a bias for keys, which it never uses, it is zero."""
    state = random_net(library, **arch).state_dict()
    for key, value in state.items():
        if key.endswith('qkv.bias'):
            value.view(3, -1)[1] = 0
    return state


@pytest.mark.parametrize('library', LIBRARIES_V2)
def test_round_trip_is_bitwise(library):
    """With the derived buffers, so that the result loads strictly where it came from."""
    state = state_of(library, SMALL)
    official = to_official(state)
    assert recognise(state) == LIBRARIES_V2[library].dialect
    assert recognise(official) == 'official'
    assert same(from_official(official, LIBRARIES_V2[library].dialect), state)
    assert same(to_official(official), official)
    assert same(from_official(official, 'official'), official)


@pytest.mark.slow
@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('library', LIBRARIES_V2)
def test_round_trip_of_every_size_is_bitwise(library, arch):
    state = state_of(library, ARCHS[arch])
    assert same(from_official(to_official(state), LIBRARIES_V2[library].dialect), state)


@pytest.mark.parametrize('arch', [SMALL, ARCHS['tiny']], ids=['small', 'tiny'])
@pytest.mark.parametrize('library', LIBRARIES_V2)
def test_names_and_shapes_become_microsofts(library, arch):
    official = plain(to_official(random_net(library, **arch).state_dict()))
    got = {key: value.shape for key, value in official.items() if not key.startswith('norm')}
    want = {key: value.shape for key, value in plain(microsoft_v2(**arch)).items() if not key.startswith('norm')}
    if 'head.weight' not in got:
        want = {key: shape for key, shape in want.items() if not key.startswith('head.')}
    assert got == want
    norms = {key.partition('.')[0] for key in official if key.startswith('norm')}
    assert norms == {'mmpretrain V2': {'norm0', 'norm1', 'norm2', 'norm3'}, 'transformers V2': set()}.get(
        library, {'norm'}
    )


@pytest.mark.parametrize('dialect', OTHERS)
def test_microsofts_file_goes_there_and_back(dialect):
    """Its window goes along where the library keeps it too; index and mask are computed again."""
    state = microsoft_v2(**SMALL)
    official = to_official(state)
    assert state.keys() - official.keys() == {key for key in state if key.endswith(('index', 'attn_mask'))}
    there = from_official(official, dialect)
    assert recognise(there) == dialect
    back = to_official(there)
    assert same(back, official if DIALECTS_V2[dialect].coordinates else plain(official))


@pytest.mark.parametrize('library', LIBRARIES_V2)
def test_microsofts_file_loads_strictly_in_the_library(library):
    """All buffers that it wants are there. mmpretrain drops these from what it is given, and misses nothing else."""
    official = backbone()
    theirs = LIBRARIES_V2[library].build(**SMALL)
    state = from_official(official, LIBRARIES_V2[library].dialect)
    own = theirs.state_dict().keys()
    absent = {key for key in own if key.startswith(('norm', 'head'))}  # ours had no such, or theirs has no such
    assert own - absent == {key for key in state if not key.startswith(('norm', 'layernorm'))}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    buffers = {key for key in missing if key.endswith(DERIVED)}
    assert not buffers or library == 'mmpretrain V2'
    assert set(missing) - buffers <= absent
    assert all(key.startswith(('norm', 'layernorm')) for key in unexpected)


def test_queries_and_values_get_the_bias_of_torchvision_and_keys_none():
    state = state_of('torchvision V2', SMALL)
    key = 'features.3.1.attn.qkv.bias'
    state[key] = torch.arange(48.0)
    official = to_official(state)
    assert official['layers.1.blocks.1.attn.q_bias'].tolist() == list(range(16))
    assert official['layers.1.blocks.1.attn.v_bias'].tolist() == list(range(32, 48))
    assert not [name for name in official if name.endswith('qkv.bias')]
    assert from_official(official, 'torchvision')[key].tolist() == [*range(16), *[0] * 16, *range(32, 48)]
    with pytest.raises(CheckpointError, match=r'layers\.1\.blocks\.1\.attn\.qkv\.bias must hold three biases of equal'):
        to_official({**state, key: torch.ones(47)})
    del official['layers.1.blocks.1.attn.v_bias']
    with pytest.raises(CheckpointError, match=r'layers\.1\.blocks\.1\.attn\.v_bias must be there'):
        from_official(official, 'torchvision')


def test_only_the_inputs_of_patch_merging_have_another_order_in_mmpretrain():
    """The norm comes after the layer in V2: each of its values is of one channel."""
    official = backbone()
    there = from_official(official, 'mmpretrain')
    for i in range(3):
        ours, theirs = f'layers.{i}.downsample.', f'stages.{i + 1}.downsample.'
        for name in ('norm.weight', 'norm.bias'):
            assert torch.equal(there[theirs + name], official[ours + name])
        weight = official[f'{ours}reduction.weight'].view(2 * 8 * 2**i, 2, 2, 8 * 2**i)  # column, row, channel
        unfolded = weight.permute(0, 3, 2, 1).flatten(1)
        assert torch.equal(there[f'{theirs}reduction.weight'], unfolded)


def test_simmims_first_names_and_encoder():
    official = backbone()
    file = {f'encoder.{key.replace("cpb_mlp", "rpe_mlp")}': value for key, value in official.items()}
    file |= {'encoder.mask_token': torch.ones(1, 1, 8), 'decoder.0.weight': torch.ones(3, 64, 1, 1)}
    state, prefix = unwrap({'model': file, 'epoch': 3})
    assert prefix == 'encoder.'
    got = to_official(state)
    assert got.pop('mask_token').shape == (1, 1, 8)
    assert same(got, official)


@pytest.mark.parametrize('name', ['Swinv2Model', 'Swinv2ForImageClassification', 'Swinv2ForMaskedImageModeling'])
def test_files_of_hugging_face(name, tmp_path):
    """One set of names for files and state dicts, in transformers 4 and 5."""
    theirs = randomized(hugging_face(name, **SMALL)).eval()
    file, state = written(theirs, tmp_path), theirs.state_dict()
    assert recognise(file) == 'hf'
    assert same(to_official(file), to_official(state))
    back = from_official(to_official(file), 'hf')
    decoder = {key for key in file if key.startswith('decoder.')}
    assert same(back, {key: value for key, value in file.items() if key not in decoder}) or name.endswith('Modeling')


def test_classifiers_of_hugging_face_stand_beside_their_head():
    """The names of ``Swinv2ForImageClassification``."""
    there = from_official(to_official(microsoft_v2(**SMALL)), 'hf')
    assert {key.split('.')[0] for key in there} == {'swinv2', 'classifier'}
    assert {'swinv2.layernorm.weight', 'swinv2.embeddings.norm.weight', 'classifier.bias'} <= there.keys()
    attention = 'swinv2.encoder.layers.1.blocks.0.attention.'
    assert {key.removeprefix(attention) for key in there if key.startswith(attention)} == {
        'self.logit_scale',
        *(f'self.continuous_position_bias_mlp.{name}' for name in ('0.weight', '0.bias', '2.weight')),
        *(f'self.{name}.weight' for name in ('query', 'key', 'value')),
        *(f'self.{name}.bias' for name in ('query', 'value')),
        *(f'output.dense.{kind}' for kind in ('weight', 'bias')),
    }


PREFIXES = ['', 'module.', 'backbone.', 'module.backbone.', 'backbone.bottom_up.', 'swinv2.', 'backbone.swinv2.']


@pytest.mark.parametrize('prefix', PREFIXES)
@pytest.mark.parametrize('dialect', DIALECTS_V2)
def test_every_dialect_is_known_under_every_prefix(dialect, prefix):
    official = backbone()
    state = {prefix + key: value for key, value in from_official(official, dialect).items()}
    assert recognise(state) == dialect
    got = {key.removeprefix('backbone.'): value for key, value in to_official(unwrap(state)[0]).items()}
    assert same(plain(got), plain(official))


@pytest.mark.parametrize('other', OTHERS)
@pytest.mark.parametrize('one', DIALECTS_V2)
def test_two_dialects_at_once_are_refused(one, other):
    if one == other:
        return
    official = to_official(microsoft_v2(**SMALL))
    mixed = {**from_official(official, one), **from_official(official, other)}
    with pytest.raises(CheckpointError, match=r'several dialects at once|several backbones'):
        recognise(mixed)


def test_norms_of_maps_are_of_official_and_openmmlabs_backbones_alone():
    """transformers has them in its V1 backbone only."""
    official = backbone() | {'norm0.weight': torch.ones(8)}
    for dialect in ('timm', 'torchvision', 'hf'):
        with pytest.raises(CheckpointError, match=rf'{dialect} has no norms of maps: leave out norm0\.weight'):
            from_official(official, dialect)
    assert 'norm0.weight' in from_official(official, 'mmpretrain')


def test_a_dialect_without_v2_is_named():
    official = backbone()
    for dialect in ('mmdet', 'mmseg', 'hf5'):
        with pytest.raises(CheckpointError, match=rf"of Swin V2 must be one of .*'mmpretrain'.* got '{dialect}'"):
            from_official(official, dialect)
    hf5 = {'encoder.layers.0.blocks.0.attention.q_proj.weight': torch.ones(8, 8)}
    with pytest.raises(CheckpointError, match=r'several dialects at once: hf5 \(.*, Swin V2 \(.*logit_scale\)'):
        recognise(hf5 | {'encoder.layers.0.blocks.0.attention.self.logit_scale': torch.ones(1, 1, 1)})
