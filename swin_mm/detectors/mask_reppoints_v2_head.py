"""Mask RepPoints V2: the head of RepPoints V2 with masks by conditional convolutions.

Written after ``reppoints_v2_head.py`` and ``mask_reppoints_v2_detector.py`` of the official Swin detection repository.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.utils import aligned_bilinear
from mmengine.model import normal_init
from torch import Tensor, nn
from torch.nn import functional

from .conditional_masks import NUMBER_OF_WEIGHTS, OUT_STRIDE, ConditionalMasks, dice_loss
from .point_maps import LevelMaps, flatten
from .reppoints_v2_head import RepPointsV2Head

AT_ONCE = 16  # masks at the size of the image that are in memory at a time


class MaskRepPointsV2Head(RepPointsV2Head):
    """`RepPointsV2Head` that also draws masks, from the centre of an object's points and weights at its point.

    Args:
        mask_head: Arguments of `ConditionalMasks` but for ``in_channels`` and ``stride``.
        mask_loss_weights: For the masks of each of the three layers.
        max_masks: At most so many masks are drawn in a training step, chosen at random.
        head: Arguments of `RepPointsV2Head`.
    """

    def __init__(
        self,
        mask_head: dict,
        mask_loss_weights: Sequence[float] = (0.0, 0.6, 1.0),
        max_masks: int = 500,
        feat_channels: int = 256,
        **head: Any,
    ):
        super().__init__(feat_channels=feat_channels, **head)
        self.mask_loss_weights, self.max_masks = list(mask_loss_weights), max_masks
        stride = self.prior_generator.strides[0][0]
        self.mask_head = ConditionalMasks(head['in_channels'], stride=stride, **mask_head)
        self.controller = nn.Conv2d(feat_channels, NUMBER_OF_WEIGHTS, 3, padding=1)

    def init_weights(self) -> None:
        """Draws fresh weights as officially: those of the controller are small too."""
        super().init_weights()
        normal_init(self.controller, std=0.01)

    def _classify(self, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor | None]:
        tower = self.reppoints_cls_conv(x, shift).relu()
        return self.reppoints_cls_out(tower), self.controller(tower)

    def object_centers(self, sample: Any) -> Tensor:
        """Gives (G, 2): the centres of mass of the objects' masks, in pixels."""
        truth = sample.gt_instances
        masks = truth.masks.to_tensor(torch.float32, truth.bboxes.device)
        area = masks.sum((1, 2)).clamp(min=1e-6)
        y, x = (torch.arange(side, dtype=masks.dtype, device=masks.device) for side in masks.shape[1:])
        return torch.stack([(masks.sum(1) * x).sum(1), (masks.sum(2) * y).sum(1)], 1) / area[:, None]

    def loss(self, x: Sequence[Tensor], batch_data_samples: Sequence[Any]) -> dict[str, Any]:
        """Gives the losses by name: those of `RepPointsV2Head` and ``loss_mask_0`` to ``loss_mask_2``."""
        levels = self(x)
        targets = self.targets(levels, batch_data_samples)
        losses = self.losses(levels, self.grids(levels), targets, batch_data_samples)
        image, point = (targets.refined >= 0).nonzero(as_tuple=True)
        if len(point) > self.max_masks:
            chosen = torch.randperm(len(point), device=point.device)[: self.max_masks]
            image, point = image[chosen], point[chosen]
        found = self._draw(x, levels, image, point)
        wanted = self._true_masks(batch_data_samples, image, targets.refined[image, point])
        for i, (masks, weight) in enumerate(zip(found, self.mask_loss_weights, strict=True)):
            # Without an object 0, by way of every mask weight, so that ranks agree on which gradients exist.
            loss = dice_loss(masks, wanted).mean() if len(point) else masks.sum()
            losses[f'loss_mask_{i}'] = loss * weight
        return losses

    def predict(self, x: Sequence[Tensor], batch_data_samples: Sequence[Any], rescale: bool = False) -> list[Any]:
        """Gives for each image an ``InstanceData`` of boxes, scores, labels and ``masks`` (n, H, W), bool.

        Masks have the size of the network's image or, with ``rescale``, of the original one.
        """
        levels, results = self(x), []
        for i, sample in enumerate(batch_data_samples):
            meta = sample.metainfo
            result, point = self._find(levels, i, meta, rescale)
            masks = self._draw(x, levels, torch.full_like(point, i), point)[-1]
            size = meta['ori_shape'] if rescale else meta['img_shape']
            result.masks = _resize(masks, meta['img_shape'][:2], size[:2])
            results.append(result)
        return results

    def _draw(self, x: Sequence[Tensor], levels: list[LevelMaps], image: Tensor, point: Tensor) -> list[Tensor]:
        """Gives probabilities (n, H, W) of each layer for n points, of the image and with the number that are given."""
        grids = self.grids(levels)
        first = flatten([maps.first for maps in levels])[image, point]
        weights = flatten([maps.mask_weights for maps in levels if maps.mask_weights is not None])[image, point]
        grid = torch.cat(grids)[point]
        # Here, unlike for boxes, a point stands in the middle of its cell: released weights are trained so.
        cells = grid[:, :2] + grid[:, 2:] // 2
        places = first.view(len(point), first.shape[1] // 2, 2).mean(1).flip(1) * grid[:, 2:] + cells
        level = torch.cat([torch.full((len(g),), i, device=point.device) for i, g in enumerate(grids)])[point]
        return self.mask_head.head(self.mask_head.branch(x)[image], weights, places, level)

    def _true_masks(self, samples: Sequence[Any], image: Tensor, objects: Tensor) -> Tensor:
        """Gives (n, H, W) at a stride of 4 pixels: of each image and object the mask, in the shape of the batch."""
        masks, starts = [], [0]
        for sample in samples:
            padded = sample.gt_instances.masks.pad(sample.metainfo['batch_input_shape'])
            masks.append(padded.to_tensor(torch.float32, image.device)[:, OUT_STRIDE // 2 :: OUT_STRIDE])
            starts.append(starts[-1] + len(masks[-1]))
        every = torch.cat(masks)[:, :, OUT_STRIDE // 2 :: OUT_STRIDE]
        return every[image.new_tensor(starts)[image] + objects]


def _resize(masks: Tensor, valid: Sequence[int], size: Sequence[int]) -> Tensor:
    """Gives (n, *size), bool, from probabilities (n, H, W) at a stride of 4 pixels of which ``valid`` pixels count."""
    result = [masks.new_zeros(0, *size, dtype=torch.bool)]
    for some in masks.split(AT_ONCE):
        if len(some):
            fine = aligned_bilinear(some[:, None], OUT_STRIDE)[:, :, : valid[0], : valid[1]]
            fine = functional.interpolate(fine, size=tuple(size), mode='bilinear', align_corners=False)
            result.append(fine[:, 0] > 0.5)
    return torch.cat(result)
