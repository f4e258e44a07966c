"""Every way to load weights takes every dialect, says what it did, and stops where too little fits."""

import pytest
import torch
from libraries import SMALL
from mmengine.runner import load_checkpoint
from torch import nn

from swin_mm import SwinTransformer
from swin_mm.checkpoints import DIALECTS, adapt, from_official, to_official
from swin_mm.errors import CheckpointError

DEEPER = dict(SMALL, depths=(2, 2, 4, 2))
WIDER = dict(SMALL, embed_dims=16)


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """What the backbone has logged."""
    lines = []
    monkeypatch.setattr('swin_mm.checkpoints.load.print_log', lambda text, *_: lines.append(text))
    return lines


@pytest.fixture
def own(make_swin) -> dict[str, torch.Tensor]:
    return make_swin(seed=1).state_dict()


def classifier(own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Microsoft's file of the same weights."""
    state = {key: value for key, value in own.items() if key[:4] != 'norm'}
    state |= {'norm.weight': torch.ones(64), 'norm.bias': torch.ones(64)}
    state |= {'head.weight': torch.ones(5, 64), 'head.bias': torch.ones(5)}
    for i in range(4):
        for j in range(2):
            state[f'layers.{i}.blocks.{j}.attn.relative_position_index'] = torch.zeros(49, 49, dtype=torch.int64)
        if i < 3:
            state[f'layers.{i}.blocks.1.attn_mask'] = torch.zeros(4, 49, 49)
    return state


def plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without derived buffers."""
    return {key: value for key, value in state.items() if not key.endswith(('index', 'mask'))}


def equal(net: nn.Module, state: dict[str, torch.Tensor], prefix: str = '') -> bool:
    return all(torch.equal(value, state[key.removeprefix(prefix)]) for key, value in net.state_dict().items())


@pytest.mark.parametrize('dialect', ['official', 'mmdet', 'hf', 'hf5'])
@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
@pytest.mark.parametrize('container', [None, 'state_dict', 'model', 'state_dict_ema'])
def test_init_cfg_takes_every_dialect(own, tmp_path, dialect, prefix, container):
    state = {prefix + key: value for key, value in from_official(own, dialect).items()}
    torch.save({container: state} if container else state, tmp_path / 'swin.pth')
    net = SwinTransformer(**SMALL, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth')))
    net.init_weights()
    assert equal(net, own)


@pytest.mark.parametrize('dialect', ['official', 'mmdet', 'hf'])
@pytest.mark.parametrize('inner', ['', 'bottom_up.', 'swin.'])
def test_a_model_with_a_backbone_takes_every_dialect(own, tmp_path, dialect, inner):
    """As ``load_from``, resume and test do it, and strictly; the heads are the model's own matter."""
    model = nn.ModuleDict(dict(backbone=SwinTransformer(**SMALL), neck=nn.Linear(1, 1)))
    state = {f'backbone.{inner}{key}': value for key, value in from_official(own, dialect).items()}
    state |= {'neck.weight': torch.full((1, 1), 7.0), 'neck.bias': torch.full((1,), 8.0)}
    before = dict(state)
    model.load_state_dict(state, strict=True)
    assert state.keys() == before.keys()
    torch.save({'meta': {}, 'state_dict': {f'module.{key}': value for key, value in state.items()}}, tmp_path / 'm.pth')
    other = nn.ModuleDict(dict(backbone=SwinTransformer(**SMALL), neck=nn.Linear(1, 1)))
    load_checkpoint(other, str(tmp_path / 'm.pth'), strict=True)
    for net in (model, other):
        assert equal(net['backbone'], own)
        assert net['neck'].bias.item() == 8


def test_a_whole_model_gives_its_backbone_to_a_backbone(own, log):
    state = {f'backbone.{key}': value for key, value in own.items()}
    net = SwinTransformer(**SMALL)
    net.load_state_dict(state | {'neck.weight': torch.ones(1), 'roi_head.x': torch.ones(1)}, strict=True)
    assert equal(net, own)
    assert '2 x of other parts of the model' in log[0]


def test_a_state_dict_of_ours_passes_untouched_and_unsaid(own, log, monkeypatch):
    def refuse(*_):
        raise AssertionError('nothing to do')

    monkeypatch.setattr('swin_mm.checkpoints.load.adapt', refuse)
    net = SwinTransformer(**SMALL)
    net.load_state_dict(dict(reversed(own.items())), strict=True)
    nn.ModuleDict(dict(backbone=net)).load_state_dict({'neck.bias': torch.ones(1)}, strict=False)
    assert equal(net, own)
    assert log == []
    shared = SwinTransformer(**SMALL)
    shared.load_state_dict(own, strict=True, assign=True)
    assert shared.patch_embed.proj.weight.data_ptr() == own['patch_embed.proj.weight'].data_ptr()


@pytest.mark.parametrize('dialect', ['official', 'mmdet', 'hf'])
def test_a_backbone_that_lost_its_norms_is_no_classifier(own, log, dialect):
    state = from_official({key: value for key, value in own.items() if key[:4] != 'norm'}, dialect)
    net = SwinTransformer(**SMALL, min_loaded=0.9)
    with pytest.raises(RuntimeError, match=r'Missing key.*norm0\.weight'):
        net.load_state_dict(state, strict=True)
    assert 'MISSING               norm0.weight, norm0.bias, norm1.weight, norm1.bias, ... (8 in all)' in log[0]
    with pytest.raises(CheckpointError, match=r'117 of its 125 tensors are filled'):
        SwinTransformer(**SMALL).load_state_dict(state, strict=False)


def test_a_norm_of_another_run_starts_at_identity(own):
    """Also in a network that had been trained before."""
    net = SwinTransformer(**SMALL)
    net.load_state_dict(own)
    net.load_state_dict(classifier(own), strict=True)
    for i in range(4):
        norm = getattr(net, f'norm{i}')
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()


TABLE = """\
Checkpoint of a Swin backbone (embed_dims=8, depths=(2, 2, 2, 2)):
  dialect               official, prefix ''
  loaded                117 of 117 tensors
  resized               {resized}
  starting at identity  norm0.weight, norm0.bias, norm1.weight, norm1.bias, ... (8 in all)
  dropped on purpose    11 x derived buffer, 4 x of the classification head"""


def test_the_table_says_what_became_of_every_key(own, log):
    SwinTransformer(**SMALL, window_size=5).load_state_dict({'model': classifier(own)}, strict=True)
    table = '{} x relative_position_bias_table (169, {heads}) -> (81, {heads})'
    resized = ', '.join(table.format(count, heads=heads) for count, heads in ((2, 1), (4, 2), (2, 4)))
    assert log == [TABLE.format(resized=resized)]
    state = dict(own, extra=torch.ones(1))
    del state['norm0.bias']
    missing, unexpected = SwinTransformer(**SMALL).load_state_dict(state, strict=False)
    assert (missing, unexpected) == (['norm0.bias'], ['extra'])
    assert 'MISSING               norm0.bias\n' in log[1]
    assert 'UNEXPECTED            extra' in log[1]


def test_every_key_has_one_fate(own):
    for dialect in DIALECTS.values():
        given = from_official(own if dialect.map_norm else plain(classifier(own)), dialect.name)
        given |= {'extra': torch.ones(1), 'layers.7.x': torch.ones(1)}
        fitted, report = adapt(given, own, (5, 5))
        assert sorted([*report.loaded, *report.resized, *report.fresh, *report.missing]) == sorted(own)
        assert {'extra', 'layers.7.x'} <= set(report.unexpected) | set(report.dropped)
        assert set(fitted) == {*report.loaded, *report.resized, *report.fresh, *report.unexpected}


@pytest.mark.parametrize(('source', 'target'), [(DEEPER, SMALL), (SMALL, DEEPER)], ids=['deeper', 'shallower'])
def test_weights_of_another_depth_are_refused(source, target):
    """A deeper network has every tensor of a shallow one, and no shape would tell."""
    state = SwinTransformer(**source).state_dict()
    with pytest.raises(CheckpointError, match=r'does not fit .*layers\.2\.blocks\.2.*set min_loaded=0') as error:
        SwinTransformer(**target).load_state_dict(state, strict=False)
    assert 'depths=(2, 2, 4, 2)' in str(error.value)
    net = SwinTransformer(**target, min_loaded=0)
    net.load_state_dict(state, strict=False)
    assert torch.equal(net.norm3.bias, state['norm3.bias'])
    with pytest.raises(RuntimeError, match=r'Missing key|Unexpected key'):
        net.load_state_dict(state, strict=True)


def test_weights_of_another_width_are_refused_whatever_is_asked_for():
    state = SwinTransformer(**WIDER).state_dict()
    for min_loaded in (0.95, 0):
        with pytest.raises(CheckpointError, match=r'embed_dims=16.* has other shapes .*Choose arch'):
            SwinTransformer(**SMALL, min_loaded=min_loaded).load_state_dict(state, strict=False)


def test_resnet_weights_are_refused_under_init_cfg(tmp_path):
    resnet = pytest.importorskip('torchvision').models.resnet18()
    torch.save(resnet.state_dict(), tmp_path / 'resnet.pth')
    net = SwinTransformer(**SMALL, pretrained=str(tmp_path / 'resnet.pth'))
    with pytest.raises(CheckpointError, match=r'no block of a Swin Transformer .*conv1\.weight'):
        net.init_weights()


@pytest.mark.parametrize('out_indices', [(0,), (1, 2), (0, 3)], ids=str)
@pytest.mark.parametrize('dialect', ['official', 'timm', 'mmdet', 'hf'])
def test_maps_that_are_not_returned_are_left_out(own, dialect, out_indices):
    state = plain(classifier(own)) if dialect == 'timm' else own
    net = SwinTransformer(**SMALL, out_indices=out_indices)
    net.load_state_dict(from_official(state, dialect), strict=True)
    assert all(torch.equal(value, own[key]) for key, value in net.state_dict().items() if key[:4] != 'norm')


FIVE = dict(SMALL, depths=(2, 2, 2, 2, 1), num_heads=(1, 2, 2, 4, 4), out_indices=(1, 2, 3, 4))


@pytest.mark.parametrize('dialect', [*DIALECTS])
def test_five_stages_start_from_a_file_of_four(make_swin, own, tmp_path, log, dialect):
    """As in mmdet, whose RTMDet with five maps so starts from a public classifier; its fifth stage is fresh."""
    shared = {key: value for key, value in own.items() if key[:4] != 'norm'}
    torch.save({'model': from_official(shared | {'norm.weight': torch.ones(64)}, dialect)}, tmp_path / 'swin.pth')
    net = make_swin(**FIVE, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth')))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.init_weights()
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in shared.items())
    deeper = [key for key in after if key.startswith(('layers.4.', 'layers.3.downsample.'))]
    assert deeper
    assert all(torch.equal(after[key], before[key]) for key in deeper)
    assert 'FRESH, deeper stages' in log[-1]
    assert 'MISSING' not in log[-1]
    with pytest.raises(RuntimeError, match=r'Missing key.*layers\.3\.downsample'):
        make_swin(**FIVE).load_state_dict(shared)


@pytest.mark.parametrize('stages', [1, 2, 3, 5])
@pytest.mark.parametrize('dialect', [*DIALECTS])
def test_any_number_of_stages_comes_back_from_every_dialect(make_swin, dialect, stages):
    arguments = dict(depths=(1, 2, 1, 1, 1)[:stages], num_heads=(1, 2, 2, 4, 4)[:stages])
    own = make_swin(**arguments, out_indices=(stages - 1,)).state_dict()
    state = {key: value for key, value in own.items() if DIALECTS[dialect].map_norm or key[:4] != 'norm'}
    back = to_official(from_official(state, dialect))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())


def test_a_file_without_its_last_stage_is_refused(make_swin, own):
    lost = 'layers.3.', 'layers.2.downsample', 'norm3'
    cut = {key: value for key, value in own.items() if not key.startswith(lost)}
    with pytest.raises(CheckpointError, match='does not fit the backbone'):
        make_swin().load_state_dict(cut)
