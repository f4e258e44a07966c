"""Builds the whole models that benchmark.py compares: one config with our backbone and with its library's own."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from ..backbone import SwinTransformer, SwinTransformerV2
from ..checkpoints import from_official
from ..errors import PreflightError
from ..recipes import SCOPES, type_name
from .peers import Conditions, Peer, Repetition, as_if_trained

NETWORKS = ('SwinTransformer', 'SwinTransformerV2')
# The arguments that mmdet's and mmseg's classes take like ours. Sides and the MLP ratio they want as whole numbers.
STOCK_ARGUMENTS = (
    'in_channels',
    'embed_dims',
    'depths',
    'num_heads',
    'pretrain_img_size',
    'out_indices',
    'frozen_stages',
    'qkv_bias',
    'qk_scale',
    'patch_norm',
    'drop_rate',
    'attn_drop_rate',
    'drop_path_rate',
    'use_abs_pos_embed',
    'act_cfg',
    'norm_cfg',
    'with_cp',
)


@dataclass(frozen=True)
class WholeModel(Peer):
    """A detector of mmdet or segmentor of mmseg, as ``scope`` says, without pre- and post-processing."""

    net: BaseModel
    scope: str = 'mmdet'

    def maps(self, image: Tensor, conditions: Conditions) -> list[Tensor]:
        """Gives the maps that the heads get from the backbone, or from the neck behind it, in float32."""
        with conditions.autocast():
            return [m.float() for m in self.net.extract_feat(image)]

    def repetition(self, image: Tensor, conditions: Conditions) -> Repetition:
        """Gives what is timed: a pass through the whole network, and in training also losses and gradients.

        Detectors choose their regions in it. The annotations that the losses need are random.
        """
        self.net.train(conditions.train)
        samples = made_samples(self.scope, image)

        def infer() -> Any:
            with torch.no_grad(), conditions.autocast():
                return self.net(image, samples, mode='tensor')

        def train() -> None:
            with conditions.autocast():
                loss, _ = self.net.parse_losses(self.net(image, samples, mode='loss'))
            loss.backward()

        return train if conditions.train else infer

    def compiled(self) -> 'WholeModel':
        """Gives the same weights with a compiled backbone; heads, which depend on what was found, stay as they are."""
        net = copy.deepcopy(self.net)
        net.backbone.compile(dynamic=False)
        return replace(self, net=net)


def whole_models(config: Config) -> dict[str, WholeModel]:
    """Builds the model of ``config`` with our backbone, and with the backbone of the library in its default scope.

    Raises PreflightError if the library has no such backbone, or ``config`` has another one than a Swin Transformer.
    """
    from mmengine.model.utils import revert_sync_batchnorm

    net, scope = our_model(config), config.default_scope
    if isinstance(net.backbone, SwinTransformerV2):
        raise PreflightError(f'model.backbone must be a SwinTransformer: {scope} has no V2 to compare with')
    stock = copy.deepcopy(config.model)
    stock.backbone = ConfigDict(type=f'{scope}.SwinTransformer', **_stock_arguments(net.backbone))
    with DefaultScope.overwrite_default_scope(scope), torch.random.fork_rng(devices=[]):
        other = revert_sync_batchnorm(MODELS.build(stock))
    other.load_state_dict(from_official(net.state_dict(), scope), strict=True)
    taken = dict(channels=net.backbone.arguments.in_channels, scope=scope)
    return {'swin_mm': WholeModel(net, **taken), scope: WholeModel(other, **taken)}


def our_model(config: Config) -> BaseModel:
    """Builds the model of ``config`` with our backbone and random weights, the same in every run.

    Synchronised batch norms become plain ones, as in a training on one GPU. Raises PreflightError if ``config`` is not
    for mmdet or mmseg, or has another backbone than a Swin Transformer.
    """
    from mmengine.model.utils import revert_sync_batchnorm

    scope, backbone = config.get('default_scope'), config.model.get('backbone') or {}
    if scope not in SCOPES or type_name(backbone) not in NETWORKS:
        raise PreflightError(
            'config must have default_scope mmdet or mmseg and a SwinTransformer as model.backbone, got '
            f'default_scope={scope} and backbone {backbone.get("type")}'
        )
    with DefaultScope.overwrite_default_scope(scope), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = copy.deepcopy(config.model)
        ours.backbone.type = f'swin_mm.{type_name(backbone)}'
        net = revert_sync_batchnorm(MODELS.build(ours))
        as_if_trained(net.backbone)
    return net


def _stock_arguments(backbone: SwinTransformer) -> dict[str, Any]:
    """Gives the arguments with which mmdet's or mmseg's class builds the same backbone; PreflightError if it cannot."""
    a = backbone.arguments
    whole = dict(window_size=a.window_size[0], patch_size=a.patch_size[0], mlp_ratio=int(a.mlp_ratio))
    given = {'window_size': a.window_size, 'patch_size': a.patch_size, 'mlp_ratio': a.mlp_ratio}
    for name, value in whole.items():
        if given[name] not in (value, (value, value)):
            raise PreflightError(f'{name} must be one whole number, which mmdet and mmseg want, got {given[name]}')
    shared = {name: getattr(a, name) for name in STOCK_ARGUMENTS}
    return shared | whole | {'strides': (a.patch_size[0], 2, 2, 2)}


def made_samples(scope: str, image: Tensor) -> list[Any]:
    """Makes annotations of ``image`` (B, channels, H, W), on its device: for mmseg a random class, 0 or 1, per pixel.

    For mmdet ten random boxes with masks per image, and such a class per pixel, which panoptic models need.
    """
    size = tuple(image.shape[2:])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        boxes = [10] * len(image)
        parts = dict(num_classes=2, with_mask=True, with_semantic=True)
        samples = demo_mm_inputs(len(image), image.shape[1:], boxes, **parts)['data_samples']
    else:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        labels = torch.randint(2, (len(image), 1, *size), generator=torch.Generator().manual_seed(0))
        samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    for sample in samples:
        sample.set_metainfo(meta)
    return [sample.to(image.device) for sample in samples]
