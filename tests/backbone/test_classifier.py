"""The classifier against timm's and torchvision's, whose random weights are converted."""

import pytest
import torch
from torch import nn

from swin_mm import SwinClassifier
from swin_mm.checkpoints import from_official
from swin_mm.registry import MODELS

SMALL = dict(embed_dims=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4))


def not_special(net: nn.Module, scale: float = 0.2) -> nn.Module:
    """No bias is zero and no norm does nothing; a deep network's logits stay small with a small ``scale``."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += scale * torch.randn_like(parameter)
    return net.eval()


def torchvision_swin(window: int = 7) -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    numbers = dict(embed_dim=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 3, 4], window_size=[window, window])
    return not_special(SwinTransformer(patch_size=[4, 4], num_classes=10, **numbers))


def timm_swin(size: int, window: int = 7) -> nn.Module:
    timm = pytest.importorskip('timm', reason='timm is an oracle: pip install timm')
    numbers = dict(embed_dim=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4), window_size=window, num_classes=10)
    return not_special(timm.models.swin_transformer.SwinTransformer(img_size=size, **numbers))


def assert_same_logits(theirs: nn.Module, ours: SwinClassifier, height: int, width: int) -> None:
    ours.load_state_dict(theirs.state_dict(), strict=True)
    image = torch.randn(2, 3, height, width)
    with torch.no_grad():
        expected = theirs(image)
        torch.testing.assert_close(ours.eval()(image), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


# 7 x 7 windows cover the last map; then a side of it, then nothing, then also the third map.
@pytest.mark.parametrize('size', [(224, 224), (224, 448), (448, 224), (448, 448), (96, 160), (260, 204)])
def test_logits_are_torchvisions(size):
    assert_same_logits(torchvision_swin(), SwinClassifier(num_classes=10, **SMALL), *size)


@pytest.mark.parametrize('size', [224, 448])
def test_logits_are_timms(size):
    assert_same_logits(timm_swin(size), SwinClassifier(num_classes=10, **SMALL), size, size)


def test_logits_with_another_window_are_timms():
    assert_same_logits(timm_swin(384, 12), SwinClassifier(num_classes=10, window_size=12, **SMALL), 384, 384)


@pytest.mark.parametrize('arch', [pytest.param(a, marks=pytest.mark.slow) for a in 'tsb'])
def test_logits_of_full_size_are_torchvisions(arch):
    from torchvision import models

    assert_same_logits(not_special(getattr(models, f'swin_{arch}')(), 0.02), SwinClassifier(arch=arch), 224, 224)


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['tiny', 'small', 'base', 'large'])
def test_logits_of_full_size_are_timms(arch):
    timm = pytest.importorskip('timm', reason='timm is an oracle: pip install timm')
    theirs = not_special(timm.create_model(f'swin_{arch}_patch4_window7_224'), 0.02)
    assert_same_logits(theirs, SwinClassifier(arch=arch), 224, 224)


def test_the_shift_is_what_makes_the_difference():
    """Without cancelling, as in the dense backbone, the logits at 224 are others: the tests above can fail."""
    theirs, ours = torchvision_swin(), SwinClassifier(num_classes=10, **SMALL).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(image)
        for stage in ours.layers:
            for block in stage.blocks:
                block.attn.cancel_shift = False
        assert (ours(image) - expected).abs().max() > 1e-2 * expected.std()


def test_an_official_file_loads_with_its_head_and_norm(tmp_path):
    """Microsoft's container, with the buffers that are derived from the arguments."""
    source = not_special(SwinClassifier(num_classes=10, **SMALL))
    state = dict(source.state_dict())
    state['layers.0.blocks.1.attn_mask'] = torch.zeros(64, 49, 49)
    state['layers.0.blocks.0.attn.relative_position_index'] = torch.zeros(49, 49, dtype=torch.int64)
    torch.save({'model': state}, tmp_path / 'swin.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth'))
    net = MODELS.build(dict(type='swin_mm.SwinClassifier', num_classes=10, init_cfg=init, **SMALL))
    net.init_weights()
    for key, value in source.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    other = SwinClassifier(num_classes=7, **SMALL)
    with pytest.raises(RuntimeError, match=r'head\.weight \(10, 192\) for \(7, 192\)'):
        other.load_state_dict(torch.load(tmp_path / 'swin.pth'))


@pytest.mark.parametrize('dialect', ['mmdet', 'timm', 'torchvision', 'hf'])
def test_every_dialect_loads_with_its_head_and_norm(dialect):
    """As classifiers are written there: mmpretrain's and Hugging Face's have the head beside a prefix."""
    source, net = not_special(SwinClassifier(num_classes=10, **SMALL)), SwinClassifier(num_classes=10, **SMALL)
    net.load_state_dict(from_official(source.state_dict(), dialect), strict=True)
    for key, value in source.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key


def test_arguments_for_maps_are_refused():
    with pytest.raises(TypeError, match=r'no argument .*out_indices'):
        SwinClassifier(arch='tiny', out_indices=(0,))
