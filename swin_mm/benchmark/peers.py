"""Builds the backbones that benchmark.py compares: ours and other libraries', with equal weights."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbone import SwinTransformer, SwinTransformerV2
from ..backbone.arguments import ARCHS
from ..checkpoints import from_official
from ..checkpoints.dialects import DERIVED
from ..errors import PreflightError

Shape = tuple[int, int]  # (height, width) in pixels
Repetition = Callable[[], Any]

ROUNDS = {'cpu': 10, 'cuda': 50}
NETWORKS = {1: SwinTransformer, 2: SwinTransformerV2}
WINDOWS = {1: 7, 2: 8}
DROP_PATH = 0.1  # every library's default


@dataclass(frozen=True)
class Conditions:
    """How all implementations are run.

    Autocast uses ``dtype``; float32 means no autocast. ``train`` adds backward passes to the forward passes. Each
    implementation is timed ``rounds`` times.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    train: bool = False
    rounds: int = ROUNDS['cpu']

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @property
    def memory(self) -> str | None:
        """Says which memory is measured; None if none is."""
        if self.device.type == 'cuda':
            return 'peak beyond weights and inputs'
        return 'activations kept for the backward pass' if self.train else None


@dataclass(frozen=True)
class Peer:
    """A backbone: ``net(image)`` gives the four maps of an image of ``channels``, channels first.

    ``normed`` says whether each map has passed an output norm. ``caveat`` says, for the shape of an image, how the
    backbone differs from mmdet's; None if it does not.
    """

    net: nn.Module
    normed: bool = True
    caveat: Callable[[Shape], str | None] = lambda shape: None
    channels: int = 3

    def maps(self, image: Tensor, conditions: Conditions) -> list[Tensor]:
        """Gives its maps in float32; maps without an output norm pass one with scale 1 and shift 0."""
        with conditions.autocast():
            maps = [m.float() for m in self.net(image)]
        if self.normed:
            return maps
        return [F.layer_norm(m.permute(0, 2, 3, 1), m.shape[1:2]).permute(0, 3, 1, 2) for m in maps]

    def repetition(self, image: Tensor, conditions: Conditions) -> Repetition:
        """Gives what is timed: a forward pass, and in training also the backward pass of all maps.

        Each element of the maps has a fixed random weight in the loss, since a plain sum has no gradient behind a norm.
        """
        self.net.train(conditions.train)
        gradients: list[Tensor] = []

        def infer() -> Any:
            with torch.no_grad(), conditions.autocast():
                return self.net(image)

        def train() -> None:
            with conditions.autocast():
                maps = self.net(image)
            if not gradients:
                gradients.extend(torch.randn_like(m) for m in maps)
            torch.autograd.backward(maps, gradients)

        return train if conditions.train else infer

    def compiled(self) -> 'Peer':
        """Gives the same weights behind ``torch.compile``, which compiles anew for each size."""
        return replace(self, net=cast(nn.Module, torch.compile(self.net, dynamic=False)))


def backbones(arch: str, names: Sequence[str], version: int = 1) -> dict[str, Peer]:
    """Builds Swin Transformers of ``version`` 1 or 2, on the CPU with equal random weights.

    ``names``: of the implementations, keys of ``IMPLEMENTATIONS[version]``.
    """
    numbers = dict(ARCHS[arch], window_size=WINDOWS[version], drop_path_rate=DROP_PATH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = as_if_trained(NETWORKS[version](**numbers)).state_dict()
    return {name: IMPLEMENTATIONS[version][name](numbers, weights, version) for name in names}


def as_if_trained(backbone: SwinTransformer) -> SwinTransformer:
    """Adds random numbers to all weights, so that none is special; output norms, which some libraries lack, stay."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.startswith('norm'):
                continue
            if 'table' in name:
                scale = 0.5
            elif parameter.ndim == 1:
                scale = 0.2
            else:
                scale = 0.02
            parameter += scale * torch.randn_like(parameter)
    return backbone


def _swin_mm(numbers: dict[str, Any], weights: dict[str, Tensor], version: int) -> Peer:
    net = NETWORKS[version](**numbers)
    net.load_state_dict(weights)
    return Peer(net)


def _mmdet(numbers: dict[str, Any], weights: dict[str, Tensor], _: int) -> Peer:
    from mmdet.models.backbones import SwinTransformer as Stock

    net = Stock(**numbers)
    net.load_state_dict(from_official(weights, 'mmdet'), strict=True)
    return Peer(net)


class _TimmMaps(nn.Module):
    def __init__(self, net: Any):
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.net.forward_intermediates(_pad_to_patches(image), intermediates_only=True)


def _timm(numbers: dict[str, Any], weights: dict[str, Tensor], version: int) -> Peer:
    """Builds timm's for images of any size, with full windows and the fused attention that it calls experimental.

    Its V2 has no fused attention.
    """
    from timm.layers import set_fused_attn
    from timm.models import swin_transformer, swin_transformer_v2

    set_fused_attn(True, experimental=True)  # as TIMM_FUSED_ATTN=2, but also if timm is imported already
    numbers = {'embed_dim' if key == 'embed_dims' else key: value for key, value in numbers.items()}
    network = {1: swin_transformer.SwinTransformer, 2: swin_transformer_v2.SwinTransformerV2}[version]
    net = network(**numbers, num_classes=0, strict_img_size=False, always_partition=True)
    _load_without_norms(net, weights, 'timm')

    def caveat(shape: Shape) -> str:
        if any(side % WINDOWS[version] for side in _map_sides(shape)):
            return f'it shifts before it pads, so its maps differ; {NO_NORMS}'
        return NO_NORMS

    return Peer(_TimmMaps(net), normed=False, caveat=caveat)


class _TorchvisionMaps(nn.Module):
    def __init__(self, features: nn.Sequential):
        super().__init__()
        self.features = features

    def forward(self, image: Tensor) -> list[Tensor]:
        x = _pad_to_patches(image)
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i % 2:  # a stage; the others embed or merge patches
                maps.append(x.permute(0, 3, 1, 2))
        return maps


def _torchvision(numbers: dict[str, Any], weights: dict[str, Tensor], version: int) -> Peer:
    from torchvision.models import swin_transformer

    s = swin_transformer
    kinds = {2: dict(block=s.SwinTransformerBlockV2, downsample_layer=s.PatchMergingV2)}
    window = WINDOWS[version]
    net = s.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=numbers['embed_dims'],
        depths=list(numbers['depths']),
        num_heads=list(numbers['num_heads']),
        window_size=[window, window],
        stochastic_depth_prob=numbers['drop_path_rate'],
        num_classes=1,
        **kinds.get(version, {}),
    )
    _load_without_norms(net, weights, 'torchvision')

    def caveat(shape: Shape) -> str:
        if any(side <= window for side in _map_sides(shape)):
            return f'it does not shift where one window covers the map, so its maps differ; {NO_NORMS}'
        return NO_NORMS

    return Peer(_TorchvisionMaps(net.features), normed=False, caveat=caveat)


IMPLEMENTATIONS: dict[int, dict[str, Callable[[dict[str, Any], dict[str, Tensor], int], Peer]]] = {
    1: {'swin_mm': _swin_mm, 'mmdet': _mmdet, 'timm': _timm, 'torchvision': _torchvision},
    2: {'swin_mm': _swin_mm, 'timm': _timm, 'torchvision': _torchvision},
}
NO_NORMS = 'its maps have no norms, these are applied for the difference only and not timed'


def _load_without_norms(net: nn.Module, weights: dict[str, Tensor], dialect: str) -> None:
    """Loads ``weights`` without output norms; raises PreflightError if ``net`` lacks or needs any other weights."""
    inner = {key: value for key, value in weights.items() if not key.startswith('norm')}
    missing, unexpected = net.load_state_dict(from_official(inner, dialect), strict=False)
    others = [key for key in missing if not key.startswith(('norm.', 'head.')) and not key.endswith(DERIVED)]
    if unexpected or others:
        raise PreflightError(f'{dialect} must take our weights, got {others} missing and {unexpected} unexpected')


def _map_sides(shape: Shape) -> list[int]:
    """Gives the sides of the four maps in tokens: the pixels by strides of 4 to 32, rounded up."""
    return [math.ceil(side / stride) for side in shape for stride in (4, 8, 16, 32)]


def _pad_to_patches(image: Tensor) -> Tensor:
    """Pads ``image`` with zeros at the right and bottom to whole patches, as mmdet's backbone and ours do inside."""
    bottom, right = (-side % 4 for side in image.shape[2:])
    return F.pad(image, (0, right, 0, bottom)) if bottom or right else image
