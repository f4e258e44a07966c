"""Every way to load weights takes V2 in every dialect, with the same report; V1 and V2 refuse each other's files."""

import logging

import pytest
import torch
from libraries import LIBRARIES_V2, SMALL, coordinates_v2, deviations, microsoft_v2, random_net
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from swin_mm import SwinTransformer, SwinTransformerV2
from swin_mm.backbone.arguments import ARCHS
from swin_mm.backbone.attention.window_v2 import relative_coords_table
from swin_mm.checkpoints import DIALECTS_V2, from_official, to_official
from swin_mm.checkpoints.load import check_names, load_weights
from swin_mm.checkpoints.resize import adapt_channels
from swin_mm.checkpoints.windows import units_of
from swin_mm.errors import CheckpointError


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """What the backbone has logged, warnings marked."""
    lines = []

    def keep(text, logger, level):
        lines.append(f'WARNING {text}' if level == logging.WARNING else text)

    monkeypatch.setattr('swin_mm.checkpoints.load.print_log', keep)
    return lines


@pytest.fixture
def own() -> dict[str, Tensor]:
    """A V2 backbone's state dict in which no tensor has a special value."""
    state = SwinTransformerV2(**SMALL).state_dict()
    return {key: torch.randn_like(value) for key, value in state.items()}


def equal(net: nn.Module, state: dict[str, Tensor]) -> bool:
    """Norms of maps excepted, which the state of a classifier does not have."""
    return all(torch.equal(value, state[key]) for key, value in net.state_dict().items() if key in state)


def without_norms(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith('norm')}


def in_dialect(own: dict[str, Tensor], dialect: str) -> dict[str, Tensor]:
    return from_official(own if DIALECTS_V2[dialect].map_norm else without_norms(own), dialect)


def loaded(state: dict[str, Tensor], **arguments) -> SwinTransformerV2:
    net = SwinTransformerV2(**arguments).eval()
    net.load_state_dict(state, strict=True)
    return net


@pytest.mark.parametrize('library', LIBRARIES_V2)
def test_features_are_those_of_the_library(library):
    theirs = random_net(library, **SMALL)
    ours = loaded(theirs.state_dict(), **SMALL)
    assert max(deviations(library, theirs, ours, torch.randn(1, 3, 512, 512))) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('library', LIBRARIES_V2)
def test_features_of_every_size_are_those_of_the_library(library, arch):
    theirs = random_net(library, **ARCHS[arch])
    ours = loaded(theirs.state_dict(), arch=arch)
    assert max(deviations(library, theirs, ours, torch.randn(1, 3, 512, 512))) < 1e-5


@pytest.mark.parametrize('dialect', DIALECTS_V2)
@pytest.mark.parametrize('container', [None, 'model'])
def test_init_cfg_takes_every_dialect(own, tmp_path, dialect, container):
    state = in_dialect(own, dialect)
    torch.save({container: state} if container else state, tmp_path / 'swin.pth')
    net = SwinTransformerV2(**SMALL, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth')))
    net.init_weights()
    assert equal(net, own if DIALECTS_V2[dialect].map_norm else without_norms(own))
    if not DIALECTS_V2[dialect].map_norm:
        assert (net.norm3.weight == 1).all()
        assert (net.norm3.bias == 0).all()


@pytest.mark.parametrize('dialect', DIALECTS_V2)
def test_a_whole_model_takes_every_dialect(own, tmp_path, dialect):
    """As ``load_from``, resume, test and the predictors load one; the heads are the model's own matter."""

    def model() -> nn.ModuleDict:
        return nn.ModuleDict(dict(backbone=SwinTransformerV2(**SMALL), neck=nn.Linear(1, 1)))

    state = {f'backbone.{key}': value for key, value in in_dialect(own, dialect).items()}
    state |= {'neck.weight': torch.full((1, 1), 7.0), 'neck.bias': torch.full((1,), 8.0)}
    torch.save({'meta': {}, 'state_dict': {f'module.{key}': value for key, value in state.items()}}, tmp_path / 'm.pth')
    strict, from_file, weights = model(), model(), model()
    strict.load_state_dict(state, strict=True)
    load_checkpoint(from_file, str(tmp_path / 'm.pth'), strict=True)
    load_weights(weights, {'state_dict': state})
    for net in (strict, from_file, weights):
        assert equal(net['backbone'], without_norms(own))
        assert net['neck'].bias.item() == 8


def test_a_resumed_run_passes_untouched_and_unsaid(own, log, monkeypatch):
    net = SwinTransformerV2(**SMALL)
    check_names(net, {'state_dict': own})
    monkeypatch.setattr('swin_mm.checkpoints.load.adapt', lambda *_: pytest.fail('nothing to do'))
    net.load_state_dict(own, strict=True)
    assert equal(net, own)
    assert log == []
    with pytest.raises(CheckpointError, match='written for another backbone'):
        check_names(net, {'state_dict': in_dialect(own, 'mmpretrain')})


TABLE = """\
Checkpoint of a Swin backbone (V2, embed_dims=8, depths=(2, 2, 2, 2)):
  dialect               official, prefix ''
  loaded                149 of 149 tensors
  starting at identity  norm0.weight, norm0.bias, norm1.weight, norm1.bias, ... (8 in all)
  dropped on purpose    19 x derived buffer, 4 x of the classification head"""


def test_the_table_says_what_became_of_every_key(log):
    """Windows differ, and nothing is resized: the position bias is a function of the offset."""
    file = microsoft_v2(**SMALL)
    net = SwinTransformerV2(**SMALL, window_size=[4, 4, 8, (3, 5)], pretrained_window_sizes=8)
    net.load_state_dict({'model': file}, strict=True)
    assert log == [TABLE]
    assert all(torch.equal(value, file[key]) for key, value in net.state_dict().items() if key[:4] != 'norm')


@pytest.mark.parametrize('dialect', ['official', 'torchvision', 'mmpretrain'])
def test_offsets_that_count_in_another_unit_are_reported(log, dialect):
    """A file that was fine-tuned at 384 pixels, by a model that is not told the windows of its pretraining."""
    file = {key: value for key, value in to_official(microsoft_v2(**SMALL)).items() if key[:4] != 'head'}
    for key in file:
        if key.endswith('relative_coords_table'):
            last = key.startswith('layers.3.')
            file[key] = coordinates_v2(12 if last else 24, 6 if last else 12)
    file = from_official(file, dialect)
    windows = dict(window_size=[24, 24, 24, 12])
    loaded(file, **SMALL, **windows, pretrained_window_sizes=[12, 12, 12, 6])
    loaded(file, **SMALL, pretrained_window_sizes=[12, 12, 12, 6])
    assert not any('UNIT' in table or 'WARNING' in table for table in log)
    loaded(file, **SMALL, **windows)
    assert log[-1].startswith('WARNING Checkpoint of a Swin backbone (V2')
    row = 'windows of [12, 12, 12, 6], here [24, 24, 24, 12]: set pretrained_window_sizes to the former'
    assert f'OTHER OFFSET UNIT     {row}' in log[-1]
    loaded(file, **SMALL, window_size=8, pretrained_window_sizes=[12, 12, 12, (6, 8)])
    assert 'OTHER OFFSET UNIT     windows of [12, 12, 12, 6], here [12, 12, 12, (6, 8)]: set' in log[-1]


@pytest.mark.parametrize('unit', [2, 6, 8, 12, 24, 64])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_units_are_read_out_of_coordinates(dtype, unit):
    """Ours, Microsoft's and rounded ones; a window of one token and a table without numbers do not say."""
    key = 'layers.2.blocks.0.attn.relative_coords_table'
    for table in (coordinates_v2(7, unit), relative_coords_table((7, 7), (unit, unit))):
        assert units_of({key: table.to(dtype)}) == {2: (unit, unit)}
    assert units_of({key: relative_coords_table((3, 5), (unit, 9)).to(dtype)}) == {2: (unit, 9)}
    assert units_of({key: relative_coords_table((1, 5), (unit, 9))}) == {}
    assert units_of({key: torch.zeros(1, 13, 13, 2), key + 'x': table}) == {}
    assert units_of({key: table.to('meta')}) == {}


@pytest.mark.parametrize('damage', [torch.zeros(()), torch.zeros(2, 13), coordinates_v2(7, 7)[..., :1]], ids=str)
def test_damaged_coordinates_tell_nothing_and_cost_no_weights(own, log, damage):
    tables = {key.replace('logit_scale', 'relative_coords_table'): damage for key in own if 'logit_scale' in key}
    assert equal(loaded(own | tables, **SMALL), own)
    assert '8 x derived buffer' in log[0]
    assert 'UNIT' not in log[0]
    assert not [key for key in from_official(own | tables, 'mmpretrain') if key.endswith('index')]


def test_weights_for_rgb_load_into_other_channels(own):
    net = loaded(in_dialect(own, 'timm'), **SMALL, in_channels=4, first_conv='average')
    want = adapt_channels(own['patch_embed.proj.weight'], 4, 'average')
    assert torch.equal(net.patch_embed.proj.weight, want)


@pytest.mark.parametrize('dialect', DIALECTS_V2)
def test_maps_that_are_not_returned_are_left_out(own, dialect):
    net = loaded(in_dialect(own, dialect), **SMALL, out_indices=(1, 2))
    assert equal(net, without_norms(own))


FIVE = dict(SMALL, depths=(2, 2, 2, 2, 1), num_heads=(1, 2, 2, 4, 4), out_indices=(1, 2, 3, 4))


@pytest.mark.parametrize('dialect', DIALECTS_V2)
def test_five_stages_start_from_a_file_of_four(own, log, dialect):
    shared = without_norms(own)
    net = SwinTransformerV2(**FIVE)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.load_state_dict(from_official(shared | {'norm.weight': torch.ones(64)}, dialect), strict=False)
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in shared.items())
    deeper = [key for key in after if key.startswith(('layers.4.', 'layers.3.downsample.'))]
    assert all(torch.equal(after[key], before[key]) for key in deeper)
    assert 'FRESH, deeper stages' in log[-1]
    assert 'MISSING' not in log[-1]


@pytest.mark.parametrize('stages', [1, 2, 3, 5])
@pytest.mark.parametrize('dialect', DIALECTS_V2)
def test_any_number_of_stages_comes_back_from_every_dialect(dialect, stages):
    numbers = dict(depths=(1, 2, 1, 1, 1)[:stages], num_heads=(1, 2, 2, 4, 4)[:stages], out_indices=(stages - 1,))
    state = without_norms(SwinTransformerV2(**{**SMALL, **numbers}).state_dict())
    back = to_official(from_official(state, dialect))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize('strict', [True, False])
@pytest.mark.parametrize('dialect', DIALECTS_V2)
def test_a_v1_model_refuses_v2_by_name(own, dialect, strict):
    words = r"is of Swin V2 \(it holds .*\), the backbone of Swin V1: .* type='swin_mm\.SwinTransformerV2'"
    state = in_dialect(own, dialect)
    with pytest.raises(CheckpointError, match=words):
        SwinTransformer(**SMALL, min_loaded=0).load_state_dict(state, strict=strict)
    model = nn.ModuleDict(dict(backbone=SwinTransformer(**SMALL)))
    with pytest.raises(CheckpointError, match=words):
        model.load_state_dict({f'backbone.{key}': value for key, value in state.items()}, strict=strict)


@pytest.mark.parametrize('strict', [True, False])
@pytest.mark.parametrize('dialect', ['official', 'mmdet', 'hf', 'hf5'])
def test_a_v2_model_refuses_v1_by_name(make_swin, dialect, strict):
    state = from_official(make_swin().state_dict(), dialect)
    words = r"is of Swin V1, the backbone of Swin V2: .* type='swin_mm\.SwinTransformer', in a recipe for Swin V1"
    with pytest.raises(CheckpointError, match=words):
        SwinTransformerV2(**SMALL, min_loaded=0).load_state_dict(state, strict=strict)


def test_another_depth_is_refused_with_both_networks_named(own):
    with pytest.raises(
        CheckpointError, match=r'V2, embed_dims=8, .*does not fit the backbone \(V2, .*depths=\(2, 2, 4'
    ):
        SwinTransformerV2(**dict(SMALL, depths=(2, 2, 4, 2))).load_state_dict(own, strict=False)
