"""Random weights of another library's own model: loaded as they are they give its features, and go back bitwise."""

import pytest
import torch
from libraries import LIBRARIES, SMALL, deviations, hugging_face, random_net, randomized, without_memory, written
from torch import nn

from swin_mm import SwinTransformer
from swin_mm.backbone.arguments import ARCHS
from swin_mm.checkpoints import from_official, recognise, to_official
from swin_mm.errors import CheckpointError

OPENMMLAB = ['mmdet', 'mmseg', 'mmpretrain']


def same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> bool:
    return got.keys() == want.keys() and all(
        got[key].dtype == want[key].dtype and torch.equal(got[key], want[key]) for key in want
    )


def loaded(state: dict[str, torch.Tensor], **arguments) -> SwinTransformer:
    net = SwinTransformer(**arguments).eval()
    net.load_state_dict(state, strict=True)
    return net


@pytest.mark.parametrize('library', LIBRARIES)
def test_features_are_those_of_the_library(library):
    theirs = random_net(library, **SMALL)
    ours = loaded(theirs.state_dict(), **SMALL)
    assert max(deviations(library, theirs, ours, torch.randn(1, 3, 448, 448))) < 1e-5


@pytest.mark.parametrize('library', LIBRARIES)
def test_features_of_swin_t_are_those_of_the_library(library):
    theirs = random_net(library, **ARCHS['tiny'])
    ours = loaded(theirs.state_dict(), arch='tiny')
    assert max(deviations(library, theirs, ours, torch.randn(1, 3, 448, 448))) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['small', 'base', 'large'])
@pytest.mark.parametrize('library', LIBRARIES)
def test_features_of_every_size_are_those_of_the_library(library, arch):
    theirs = random_net(library, **ARCHS[arch])
    ours = loaded(theirs.state_dict(), arch=arch)
    assert max(deviations(library, theirs, ours, torch.randn(1, 3, 448, 448))) < 1e-5


@pytest.mark.parametrize('library', LIBRARIES)
def test_round_trip_is_bitwise(library):
    """With the derived indices, so that the result loads strictly where it came from."""
    state = random_net(library, **SMALL).state_dict()
    official = to_official(state)
    assert recognise(official) == 'official'
    assert not [key for key in official if 'index' in key]
    assert same(from_official(official, LIBRARIES[library].dialect), state)
    assert same(to_official(official), official)
    assert same(from_official(official, 'official'), official)


@pytest.mark.slow
@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('library', LIBRARIES)
def test_round_trip_of_every_size_is_bitwise(library, arch):
    state = random_net(library, **ARCHS[arch]).state_dict()
    assert same(from_official(to_official(state), LIBRARIES[library].dialect), state)


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('library', LIBRARIES)
def test_every_size_has_the_same_names_and_shapes(library, arch):
    with torch.device('meta'):
        own = SwinTransformer(arch).state_dict()
    state = without_memory(lambda: LIBRARIES[library].build(**ARCHS[arch])).state_dict()
    official = {key: value.shape for key, value in to_official(state).items()}
    wanted = {key: value.shape for key, value in own.items()}
    extra = official.keys() - wanted.keys()
    assert {key: official[key] for key in official if key not in extra} == {
        key: shape for key, shape in wanted.items() if LIBRARIES[library].normed or key[:4] != 'norm'
    }
    assert extra <= {'norm.weight', 'norm.bias', 'head.weight', 'head.bias'}
    back = from_official(to_official(state), LIBRARIES[library].dialect)
    assert {key: value.shape for key, value in back.items()} == {key: value.shape for key, value in state.items()}


@pytest.mark.parametrize('library', OPENMMLAB)
def test_a_forgotten_permutation_would_be_seen(library):
    """The same names without it load strictly too, and are wrong in every map behind patch merging."""
    theirs = random_net(library, **SMALL)
    state = theirs.state_dict()
    right = to_official(state)
    forgotten = dict(right)
    for key in right:
        if '.downsample.' in key:
            forgotten[key] = state[key.replace('layers.', 'stages.')]
            assert forgotten[key].shape == right[key].shape
            assert not torch.equal(forgotten[key], right[key])
    first, *others = deviations(library, theirs, loaded(forgotten, **SMALL), torch.randn(1, 3, 64, 64))
    assert first < 1e-5
    assert min(others) > 0.5


def test_order_in_patch_merging_is_that_of_unfold():
    """Every input of the layer is numbered; nn.Unfold says which pixel of which channel it is."""
    channels, side = 3, 2
    image = torch.arange(channels * side * side).view(1, channels, side, side)
    unfolded = nn.functional.unfold(image.float(), 2, stride=2)[0, :, 0].long()
    official = torch.cat([image[0, :, row, column] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))])
    state = {
        'stages.0.blocks.0.attn.w_msa.qkv.weight': torch.zeros(9, 3),
        'stages.0.downsample.reduction.weight': unfolded.repeat(6, 1),
        'stages.0.downsample.norm.weight': unfolded,
        'stages.0.downsample.norm.bias': unfolded,
    }
    converted = to_official(state)
    for name in ('reduction.weight', 'norm.weight', 'norm.bias'):
        want = official.expand(state[f'stages.0.downsample.{name}'].shape)
        assert torch.equal(converted[f'layers.0.downsample.{name}'], want)
    assert same(from_official(converted, 'mmdet'), state)


@pytest.mark.parametrize(
    'name', ['SwinModel', 'SwinForImageClassification', 'SwinBackbone', 'UperNetForSemanticSegmentation']
)
def test_files_of_hugging_face(name, tmp_path):
    """A file's names are those of all published ones; transformers 5 has others in its state dict."""
    theirs = randomized(hugging_face(name, **SMALL)).eval()
    file, state = written(theirs, tmp_path), theirs.state_dict()
    assert (recognise(file), recognise(state)) == ('hf', LIBRARIES['transformers'].dialect)
    assert same(to_official(file), to_official(state))
    ours = loaded(file, **SMALL)
    if 'Backbone' in name or 'UperNet' in name:
        net = getattr(theirs, 'backbone', theirs)
        assert max(deviations('transformers', net, ours, torch.randn(1, 3, 448, 448))) < 1e-5

    back = from_official(to_official(file), 'hf')
    assert [key for key in back if key.endswith('relative_position_index')]
    assert same({key: value for key, value in back.items() if key in file or 'index' not in key}, file)
    again = type(theirs).from_pretrained(None, config=theirs.config, state_dict=back)
    assert same(again.state_dict(), state)


def test_classifiers_keep_their_norm_and_head():
    for library in ('torchvision', 'timm'):
        state = random_net(library, **SMALL).state_dict()
        official = to_official(state)
        assert official['head.weight'].shape == (5, 64)
        assert official['norm.weight'].shape == (64,)
        assert not [key for key in loaded(state, **SMALL).state_dict() if key.startswith(('head', 'norm.'))]


def test_mmpretrains_classifier_is_a_classifier():
    """Its last norm stands where a map's stands; as a whole it goes back bitwise too."""
    classifier = {'head.fc.weight': torch.randn(5, 64), 'head.fc.bias': torch.randn(5)}
    net = random_net('mmpretrain', **SMALL)
    backbone = {key: value for key, value in net.state_dict().items() if key[:5] not in ('norm0', 'norm1', 'norm2')}
    whole = {f'backbone.{key}': value for key, value in backbone.items()} | classifier
    official = to_official(whole)
    assert torch.equal(official['norm.bias'], backbone['norm3.bias'])
    assert torch.equal(official['head.bias'], classifier['head.fc.bias'])
    assert same(from_official(official, 'mmpretrain'), whole)


@pytest.mark.parametrize('form', ['flat', 'map'])
def test_absolute_position_embedding_goes_both_ways(form):
    arguments = dict(SMALL, use_abs_pos_embed=True, pretrain_img_size=(32, 48))
    theirs = randomized(pytest.importorskip('mmdet.models.backbones.swin').SwinTransformer(**arguments))
    state = theirs.state_dict()
    assert state['absolute_pos_embed'].shape == (1, 96, 8)
    official = to_official(state, (8, 12))
    assert same(from_official(official, 'mmdet'), state)
    with pytest.raises(CheckpointError, match='absolute_pos_embed must be of a square image'):
        to_official(state)
    ours = loaded(state if form == 'flat' else official, **arguments)
    image = torch.randn(1, 3, 32, 48)
    theirs.eval()
    for got, want in zip(ours(image), theirs(image), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_what_a_dialect_has_no_place_for_is_named():
    official = SwinTransformer(**SMALL).state_dict()
    with pytest.raises(CheckpointError, match=r'timm has no norms of maps: leave out norm0\.weight'):
        from_official(official, 'timm')
    with pytest.raises(CheckpointError, match=r"dialect of Swin V1 must be one of .*'torchvision'.* got 'keras'"):
        from_official(official, 'keras')
    with pytest.raises(CheckpointError, match=r'state must be official, got mmdet'):
        from_official(from_official(official, 'mmdet'), 'timm')
