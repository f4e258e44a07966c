"""Other libraries' Swin Transformers, V1 and V2: random state dicts and the features of their four stages."""

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
    """The class of that name in transformers, for 448x448 pixels, or 512x512 with windows of 8 in V2."""
    transformers = pytest.importorskip('transformers')
    v2 = name.startswith('Swinv2')
    config = (transformers.Swinv2Config if v2 else transformers.SwinConfig)(
        image_size=512 if v2 else 448,
        window_size=8 if v2 else 7,
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


def _torchvision_v2(embed_dims, depths, num_heads):
    swin = pytest.importorskip('torchvision.models.swin_transformer')
    parts = dict(block=swin.SwinTransformerBlockV2, downsample_layer=swin.PatchMergingV2)
    return swin.SwinTransformer([4, 4], embed_dims, list(depths), list(num_heads), [8, 8], num_classes=5, **parts)


def _timm_v2(embed_dims, depths, num_heads):
    swin = pytest.importorskip('timm.models.swin_transformer_v2')
    sizes = dict(img_size=512, window_size=8, num_classes=5)
    return swin.SwinTransformerV2(embed_dim=embed_dims, depths=depths, num_heads=num_heads, **sizes)


def _mmpretrain_v2(**arch: Any) -> nn.Module:
    module = pytest.importorskip('mmpretrain.models.backbones.swin_transformer_v2')
    arch = dict(arch, extra_norm_every_n_blocks=0)
    return module.SwinTransformerV2(arch, window_size=8, out_indices=(0, 1, 2, 3), pad_small_map=True)


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

# All with windows of 8, for 512x512 pixels: at that size nobody cancels a shift or shrinks a window.
LIBRARIES_V2 = {
    'torchvision V2': Library('torchvision', _torchvision_v2, _torchvision_maps, False),
    'timm V2': Library('timm', _timm_v2, _timm_maps, False),
    'transformers V2': Library('hf', lambda **arch: hugging_face('Swinv2Backbone', **arch), _hugging_face_maps, False),
    'mmpretrain V2': Library('mmpretrain', _mmpretrain_v2, _call, True),
}
KNOWN = LIBRARIES | LIBRARIES_V2


def random_net(library: str, **arch: Any) -> nn.Module:
    """A network of ``library`` in which no parameter has a special value; skips where the library is absent."""
    net = randomized(KNOWN[library].build(**arch))
    net.eval()  # which returns None in OpenMMLab's
    return net


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """What ``build`` makes, without memory for its weights; rates of drop path are taken out of tensors meanwhile."""
    linspace = torch.linspace
    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        patch.setattr(torch, 'linspace', lambda *args, **kwargs: linspace(*args, **{**kwargs, 'device': 'cpu'}))
        return build()


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
    for got, want in zip(ours(image), KNOWN[library].maps(theirs, image), strict=True):
        if not KNOWN[library].normed:  # ours have passed a norm that starts at identity
            want = F.layer_norm(want.permute(0, 2, 3, 1), want.shape[1:2]).permute(0, 3, 1, 2)
        assert got.shape == want.shape
        result.append(((got - want).abs().max() / want.std()).item())
    return result


def written(net: nn.Module, folder) -> dict[str, Tensor]:
    """What transformers writes into a file: other names than its state dict has."""
    load_file = pytest.importorskip('safetensors.torch').load_file
    net.save_pretrained(folder)
    return load_file(folder / 'model.safetensors')


def microsoft_v2(embed_dims, depths, num_heads, window=8, classes=5) -> dict[str, Tensor]:
    """A random file of Microsoft's classifier: the names and shapes of ``models/swin_transformer_v2.py``.

    With its derived buffers; the shift is active in all stages but the last.
    """
    shapes: dict[str, tuple[int, ...]] = {'patch_embed.proj.weight': (embed_dims, 3, 4, 4)}
    shapes |= dict.fromkeys(
        ['patch_embed.proj.bias', 'patch_embed.norm.weight', 'patch_embed.norm.bias'], (embed_dims,)
    )
    for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        dim = embed_dims * 2**i
        for j in range(depth):
            block = f'layers.{i}.blocks.{j}.'
            shapes |= {f'{block}{name}': shape for name, shape in _block_v2(dim, heads, window).items()}
            if j % 2 and i < len(depths) - 1:
                shapes[f'{block}attn_mask'] = (4, window**2, window**2)
        if i < len(depths) - 1:
            shapes[f'layers.{i}.downsample.reduction.weight'] = (2 * dim, 4 * dim)
            shapes |= dict.fromkeys([f'layers.{i}.downsample.norm.{kind}' for kind in ('weight', 'bias')], (2 * dim,))
    shapes |= {'norm.weight': (dim,), 'norm.bias': (dim,), 'head.weight': (classes, dim), 'head.bias': (classes,)}
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    tables = {name: coordinates_v2(window, window) for name in state if name.endswith('relative_coords_table')}
    return state | tables


def coordinates_v2(window: int, unit: int) -> Tensor:
    """Microsoft's ``relative_coords_table``: offsets in units of the largest one in a window of ``unit`` tokens."""
    offsets = 8 * torch.arange(1.0 - window, window) / (unit - 1)
    scaled = offsets.sign() * (offsets.abs() + 1).log2() / 3
    side = len(scaled)
    return torch.stack([scaled[:, None].expand(side, side), scaled[None].expand(side, side)], -1)[None]


def _block_v2(dim: int, heads: int, window: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        'attn.logit_scale': (heads, 1, 1),
        'attn.q_bias': (dim,),
        'attn.v_bias': (dim,),
        'attn.relative_coords_table': (1, 2 * window - 1, 2 * window - 1, 2),
        'attn.relative_position_index': (window**2, window**2),
        'attn.cpb_mlp.0.weight': (512, 2),
        'attn.cpb_mlp.0.bias': (512,),
        'attn.cpb_mlp.2.weight': (heads, 512),
        'attn.qkv.weight': (3 * dim, dim),
    }
    for name, inputs, outputs in (('attn.proj', dim, dim), ('mlp.fc1', dim, 4 * dim), ('mlp.fc2', 4 * dim, dim)):
        shapes |= {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}
    return shapes | dict.fromkeys(['norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias'], (dim,))
