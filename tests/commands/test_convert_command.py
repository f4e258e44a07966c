"""tools/convert_checkpoint.py: files that the other libraries load strictly, written whole or not at all."""

import hashlib
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from swin_mm import SwinClassifier, SwinTransformer, SwinTransformerV2
from swin_mm.checkpoints.published import RELEASES
from swin_mm.commands import convert as convert_command
from swin_mm.errors import PreflightError

SMALL = dict(embed_dims=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4))
NUMBERS = dict(embed_dim=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 3, 4])


@pytest.fixture(scope='module')
def main():
    return convert_command.main


def timm_swin() -> nn.Module:
    timm = pytest.importorskip('timm', reason='timm is an oracle: pip install timm')
    return timm.models.swin_transformer.SwinTransformer(num_classes=10, **NUMBERS)


def torchvision_swin() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], window_size=[7, 7], num_classes=10, **NUMBERS)


def mmdet_swin() -> nn.Module:
    from mmdet.models.backbones import SwinTransformer

    return SwinTransformer(embed_dims=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4))


def mmseg_swin() -> nn.Module:
    from mmseg.models.backbones import SwinTransformer

    return SwinTransformer(embed_dims=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4))


def timm_swin_v2() -> nn.Module:
    timm = pytest.importorskip('timm', reason='timm is an oracle: pip install timm')
    return timm.models.swin_transformer_v2.SwinTransformerV2(img_size=256, window_size=8, num_classes=10, **NUMBERS)


def torchvision_swin_v2() -> nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    parts = dict(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)
    return SwinTransformer([4, 4], window_size=[8, 8], num_classes=10, **NUMBERS, **parts)


def run(main, *argv) -> None:
    main(list(map(str, argv)))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize(('dialect', 'make'), [('timm', timm_swin), ('torchvision', torchvision_swin)])
def test_a_classifier_goes_there_and_back(main, tmp_path, dialect, make, suffix):
    ours, theirs = SwinClassifier(num_classes=10, **SMALL), make()
    torch.save({'model': ours.state_dict()}, tmp_path / 'swin.pth')
    there, back = tmp_path / f'there{suffix}', tmp_path / f'back{suffix}'
    run(main, tmp_path / 'swin.pth', there, '--to', dialect)
    run(main, there, back, '--to', 'official')
    loaded = {path: load_file(path) if suffix == '.safetensors' else torch.load(path) for path in (there, back)}
    theirs.load_state_dict(loaded[there], strict=True)
    assert loaded[back].keys() == ours.state_dict().keys()
    for key, value in ours.state_dict().items():
        assert torch.equal(loaded[back][key], value), key


@pytest.mark.parametrize(('dialect', 'make'), [('mmdet', mmdet_swin), ('mmseg', mmseg_swin)])
def test_a_backbone_loads_strictly_in_openmmlabs(main, tmp_path, dialect, make):
    torch.save(SwinTransformer(**SMALL).state_dict(), tmp_path / 'swin.pth')
    run(main, tmp_path / 'swin.pth', tmp_path / 'out.pth', '--to', dialect)
    make().load_state_dict(torch.load(tmp_path / 'out.pth'), strict=True)


def test_a_v2_classifier_goes_from_torchvision_to_timm_and_back(main, tmp_path, capsys):
    """Both load strictly; torchvision's needs the buffers that timm's file does not have."""
    theirs, others = torchvision_swin_v2(), timm_swin_v2()
    torch.save(theirs.state_dict(), tmp_path / 'swin.pth')
    run(main, tmp_path / 'swin.pth', tmp_path / 'official.pth', '--to', 'official')
    run(main, tmp_path / 'official.pth', tmp_path / 'timm.safetensors', '--to', 'timm')
    others.load_state_dict(load_file(tmp_path / 'timm.safetensors'), strict=True)
    run(main, tmp_path / 'official.pth', tmp_path / 'back.pth', '--to', 'torchvision')
    back = torch.load(tmp_path / 'back.pth')
    theirs.load_state_dict(back, strict=True)
    assert all(torch.equal(value, back[key]) for key, value in theirs.state_dict().items())
    run(main, tmp_path / 'timm.safetensors', tmp_path / 'less.pth', '--to', 'torchvision')
    missing, unexpected = theirs.load_state_dict(torch.load(tmp_path / 'less.pth'), strict=False)
    assert {key.rpartition('.')[2] for key in missing} == {'relative_coords_table', 'relative_position_index'}
    assert unexpected == []
    capsys.readouterr()
    for file, words in (('official.pth', 'window 8\n'), ('timm.safetensors', 'window not told\n')):
        run(main, '--inspect', tmp_path / file)
        assert f'network     V2, embed_dims=24, depths=(2, 2, 2, 2), {words}' in capsys.readouterr().out


def test_v2_goes_to_mmpretrain_and_not_to_mmdet(main, tmp_path):
    torch.save(SwinTransformerV2(**SMALL).state_dict(), tmp_path / 'swin.pth')
    run(main, tmp_path / 'swin.pth', tmp_path / 'out.pth', '--to', 'mmpretrain')
    assert 'stages.1.downsample.reduction.weight' in torch.load(tmp_path / 'out.pth')
    with pytest.raises(PreflightError, match=r"dialect of Swin V2 must be one of .*'mmpretrain'.* got 'mmdet'"):
        run(main, tmp_path / 'swin.pth', tmp_path / 'mmdet.pth', '--to', 'mmdet')
    assert not (tmp_path / 'mmdet.pth').exists()


def test_a_whole_model_keeps_its_heads_and_the_names_of_its_classes(main, tmp_path):
    backbone = {f'backbone.{key}': value for key, value in SwinTransformer(**SMALL).state_dict().items()}
    heads = {'neck.conv.weight': torch.randn(2, 3), 'roi_head.bbox_head.fc_cls.bias': torch.randn(81)}
    meta = dict(CLASSES=('a', 'b'), config='import os', epoch=12)
    torch.save(dict(meta=meta, state_dict=backbone | heads, optimizer=dict(state={})), tmp_path / 'net.pth')
    run(main, tmp_path / 'net.pth', tmp_path / 'out.pth', '--to', 'mmdet')
    found = torch.load(tmp_path / 'out.pth')
    assert found['meta'] == dict(CLASSES=('a', 'b'))
    assert found.keys() == {'meta', 'state_dict'}
    for key, value in heads.items():
        assert torch.equal(found['state_dict'][key], value)
    assert any(key.startswith('backbone.stages.0.blocks.0.attn.w_msa.') for key in found['state_dict'])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'swin.pth'
    torch.save(SwinTransformer(**SMALL).state_dict(), path)
    return path


def test_nothing_is_overwritten_unless_told(main, source, tmp_path, capsys):
    out = tmp_path / 'out.pth'
    out.write_bytes(b'precious')
    with pytest.raises(PreflightError, match=r'out\.pth is there already: pass --force'):
        run(main, source, out, '--to', 'mmdet')
    assert out.read_bytes() == b'precious'
    run(main, source, out, '--to', 'mmdet', '--force')
    assert hashlib.sha256(out.read_bytes()).hexdigest() in capsys.readouterr().out
    run(main, out, out, '--to', 'official', '--force')  # what it reads is still there while it writes
    assert torch.load(out).keys() == torch.load(source).keys()


def test_a_failure_leaves_what_was_there(main, source, tmp_path, monkeypatch):
    out = tmp_path / 'out.pth'
    out.write_bytes(b'precious')

    def full_disk(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(PreflightError, match='No space left'):
        run(main, source, out, '--to', 'mmdet', '--force')
    assert out.read_bytes() == b'precious'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out.pth', 'swin.pth']


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (['swin.pth', 'out.onnx', '--to', 'timm'], 'DST must end in .pth or .safetensors'),
        (['gone.pth', 'out.pth', '--to', 'timm'], 'gone.pth'),
        (['resnet.pth', 'out.pth', '--to', 'timm'], 'holds no block of a Swin Transformer'),
        (['--inspect', 'broken.pth'], 'broken.pth is not a checkpoint'),
    ],
)
def test_what_cannot_be_done_is_one_line(main, source, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    torch.save({'conv1.weight': torch.zeros(64, 3, 7, 7)}, 'resnet.pth')
    (tmp_path / 'broken.pth').write_bytes(source.read_bytes()[:1000])
    with pytest.raises(PreflightError, match=re.escape(words)) as caught:
        run(main, *argv)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'out.pth').exists()


def test_flags_that_contradict_are_refused(main, source):
    for argv in (['--inspect', str(source), 'out.pth'], [str(source), 'out.pth'], [str(source), '--to', 'timm']):
        with pytest.raises(SystemExit):
            main(argv)


def test_inspecting_tells_what_there_is(main, tmp_path, capsys):
    state = {f'backbone.{key}': value for key, value in SwinTransformer(window_size=5, **SMALL).state_dict().items()}
    state['decode_head.conv_seg.bias'] = torch.zeros(150)
    torch.save(dict(meta=dict(epoch=1), state_dict=state), tmp_path / 'net.pth')
    run(main, '--inspect', tmp_path / 'net.pth')
    text = capsys.readouterr().out
    parameters = sum(value.numel() for key, value in state.items() if key.startswith('backbone.'))
    for words in (
        'official (',
        "prefix 'backbone.'",
        'embed_dims=24, depths=(2, 2, 2, 2), window 5',
        f'{parameters:,}',
    ):
        assert words in text
    assert re.search(r'decode_head +150 parameters', text)
    assert hashlib.sha256((tmp_path / 'net.pth').read_bytes()).hexdigest() in text


def test_inspecting_a_published_file_of_v2_tells_how_it_was_trained(main, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('SWIN_MM_CACHE', str(tmp_path))
    name = 'swinv2_base_patch4_window12to24_192to384_22kto1k_ft.pth'
    torch.save(SwinTransformerV2(**SMALL).state_dict(), tmp_path / name)
    run(main, '--inspect', f'{RELEASES}/v2.0.0/{name}')
    trained = "arch='base', window_size=[24, 24, 24, 12], pretrained_window_sizes=[12, 12, 12, 6]"
    assert f'trained as  SwinTransformerV2({trained})\n' in capsys.readouterr().out


def test_tensors_that_share_memory_are_written_apart(main, tmp_path):
    """Views of one large tensor would each be written with all of it; safetensors refuses them."""
    state = SwinTransformer(**SMALL).state_dict()
    flat = torch.cat([value.flatten() for value in state.values()])
    parts = flat.split([value.numel() for value in state.values()])
    shared = {key: part.view(value.shape) for (key, value), part in zip(state.items(), parts, strict=True)}
    torch.save(shared, tmp_path / 'shared.pth')
    run(main, tmp_path / 'shared.pth', tmp_path / 'out.pth', '--to', 'official')
    assert (tmp_path / 'out.pth').stat().st_size < 1.1 * flat.nbytes + 200 * len(state) * 2
    run(main, tmp_path / 'shared.pth', tmp_path / 'out.safetensors', '--to', 'official')
    save_file(state, tmp_path / 'expected.safetensors')
    for key, value in load_file(tmp_path / 'expected.safetensors').items():
        assert torch.equal(load_file(tmp_path / 'out.safetensors')[key], value)


def test_equal_weights_are_equal_files(main, tmp_path, capsys):
    torch.save(SwinTransformer(**SMALL).state_dict(), tmp_path / 'swin.pth')
    for name in ('a.pth', 'b.pth'):
        run(main, tmp_path / 'swin.pth', tmp_path / name, '--to', 'mmdet')
    assert (tmp_path / 'a.pth').read_bytes() == (tmp_path / 'b.pth').read_bytes()
