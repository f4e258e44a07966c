"""Other libraries' Swin Transformers with random weights: their state dicts and the features of their four stages."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))


@dataclass(frozen=True)
class Library:
    """``build(**arch)`` makes a backbone or classifier; ``maps(net, image)`` gives the four maps, channels first.

    ``dialect``: of its state dicts. ``normed``: the maps have passed norms of their own, as ours have; otherwise ours
    have passed one that starts at identity.
    """

    dialect: str
    build: Callable[..., nn.Module]
    maps: Callable[[nn.Module, Tensor], list[Tensor]]
    normed: bool


def _torchvision(embed_dims, depths, num_heads):
    swin = pytest.importorskip('torchvision.models.swin_transformer')
    return swin.SwinTransformer([4, 4], embed_dims, list(depths), list(num_heads), [7, 7], num_classes=5)


def _torchvision_maps(net: nn.Module, image: Tensor) -> list[Tensor]:
    maps = []
    for i, layer in enumerate(net.features):
        image = layer(image)
        if i % 2:
            maps.append(image.permute(0, 3, 1, 2))
    return maps


def _timm(embed_dims, depths, num_heads):
    swin = pytest.importorskip('timm.models.swin_transformer')
    return swin.SwinTransformer(448, embed_dim=embed_dims, depths=depths, num_heads=num_heads, num_classes=5)


def _timm_maps(net: nn.Module, image: Tensor) -> list[Tensor]:
    return net.forward_intermediates(image, output_fmt='NCHW', intermediates_only=True)


def hugging_face(name: str, embed_dims, depths, num_heads) -> nn.Module:
    """The class of that name in transformers, for 448x448 pixels."""
    transformers = pytest.importorskip('transformers')
    config = transformers.SwinConfig(
        image_size=448,
        embed_dim=embed_dims,
        depths=list(depths),
        num_heads=list(num_heads),
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    if name == 'UperNetForSemanticSegmentation':
        config = transformers.UperNetConfig(backbone_config=config, hidden_size=8)
    return getattr(transformers, name)(config)


def _hugging_face_dialect() -> str:
    """transformers 5 has renamed its layers, but not what it writes into files."""
    return 'hf' if find_spec('transformers') is None or version('transformers') < '5' else 'hf5'


def _hugging_face_maps(net: nn.Module, image: Tensor) -> list[Tensor]:
    return list(net(image).feature_maps)


def _stock(module: str) -> Callable[..., nn.Module]:
    return lambda **arch: pytest.importorskip(module).SwinTransformer(**arch)


def _mmpretrain(**arch: Any) -> nn.Module:
    """Its maps of small images are padded to a window as mmdet's are."""
    module = pytest.importorskip('mmpretrain.models.backbones.swin_transformer')
    return module.SwinTransformer(arch, out_indices=(0, 1, 2, 3), pad_small_map=True)


def _call(net: nn.Module, image: Tensor) -> list[Tensor]:
    return list(net(image))


LIBRARIES = {
    'torchvision': Library('torchvision', _torchvision, _torchvision_maps, False),
    'timm': Library('timm', _timm, _timm_maps, False),
    'transformers': Library(
        _hugging_face_dialect(), lambda **arch: hugging_face('SwinBackbone', **arch), _hugging_face_maps, True
    ),
    'mmdet': Library('mmdet', _stock('mmdet.models.backbones.swin'), _call, True),
    'mmseg': Library('mmseg', _stock('mmseg.models.backbones.swin'), _call, True),
    'mmpretrain': Library('mmpretrain', _mmpretrain, _call, True),
}


def random_net(library: str, **arch: Any) -> nn.Module:
    """A network of ``library`` in which no parameter has a special value; skips where the library is absent."""
    net = randomized(LIBRARIES[library].build(**arch))
    net.eval()  # which returns None in OpenMMLab's
    return net


def randomized(net: nn.Module) -> nn.Module:
    """As if trained: matrices stay small, but no norm does nothing, no bias is zero, and tables of biases matter."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            scale = 0.5 if 'table' in name else 0.2 if parameter.ndim == 1 else 0.02
            parameter += scale * torch.randn_like(parameter)
    return net


@torch.no_grad()
def deviations(library: str, theirs: nn.Module, ours: nn.Module, image: Tensor) -> list[float]:
    """For each map the largest difference, in standard deviations of the map."""
    result = []
    for got, want in zip(ours(image), LIBRARIES[library].maps(theirs, image), strict=True):
        if not LIBRARIES[library].normed:  # ours have passed a norm that starts at identity
            want = F.layer_norm(want.permute(0, 2, 3, 1), want.shape[1:2]).permute(0, 3, 1, 2)
        assert got.shape == want.shape
        result.append(((got - want).abs().max() / want.std()).item())
    return result


def written(net: nn.Module, folder) -> dict[str, Tensor]:
    """What transformers writes into a file: other names than its state dict has."""
    load_file = pytest.importorskip('safetensors.torch').load_file
    net.save_pretrained(folder)
    return load_file(folder / 'model.safetensors')
