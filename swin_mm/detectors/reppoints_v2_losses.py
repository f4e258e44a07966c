"""The losses of RepPoints V2, of all branches."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .corner_targets import class_weights
from .point_maps import LevelMaps, flatten, points_to_boxes
from .reppoints_v2_targets import PointTargets


class PointLosses(nn.Module):
    """Compares what a head says with what its points learn.

    Args:
        scale: Boxes are measured in strides times this.
        loss_cls: Of the scores; the target of a class is the overlap of the refined box with the object's.
        loss_bbox_init: Of the first boxes.
        loss_bbox_refine: Of the refined boxes.
        loss_heatmap: Of the probability of corners.
        loss_offset: Of the offsets from the nearest points to corners.
        loss_sem: Of the class maps.
    """

    def __init__(
        self,
        scale: float,
        loss_cls: dict,
        loss_bbox_init: dict,
        loss_bbox_refine: dict,
        loss_heatmap: dict,
        loss_offset: dict,
        loss_sem: dict,
    ):
        from mmdet.registry import MODELS

        super().__init__()
        self.scale = scale
        self.loss_cls, self.loss_sem = MODELS.build(loss_cls), MODELS.build(loss_sem)
        self.loss_bbox_init, self.loss_bbox_refine = MODELS.build(loss_bbox_init), MODELS.build(loss_bbox_refine)
        self.loss_heatmap, self.loss_offset = MODELS.build(loss_heatmap), MODELS.build(loss_offset)

    def forward(
        self, levels: Sequence[LevelMaps], grids: Sequence[Tensor], targets: PointTargets, samples: Sequence[Any]
    ) -> dict[str, Any]:
        """Gives the losses by name: ``loss_sem`` as one tensor, the others as a list over levels.

        Sums are divided by the number of points with an object, or with a corner, of all levels and images; each image
        counts at least one.
        """
        objects = [_count(targets.first >= 0), _count(targets.refined >= 0)]
        corners = [_count(targets.heat[..., i] == 1) for i in (0, 1)]
        sizes = [len(grid) for grid in grids]
        wanted = [PointTargets(*level) for level in zip(*(x.split(sizes, 1) for x in targets), strict=True)]
        losses: dict[str, Any] = {'loss_sem': self._class_maps(levels, grids, samples)}
        for maps, grid, target in zip(levels, grids, wanted, strict=True):
            found = dict([*self._boxes(maps, grid, target, objects), *self._corners(maps, target, corners)])
            for name, loss in found.items():
                losses.setdefault(name, []).append(loss)
        return losses

    def _boxes(
        self, maps: LevelMaps, grid: Tensor, target: PointTargets, counts: Sequence[Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        from mmdet.structures.bbox import bbox_overlaps

        side = self.scale * grid[:, 2:]
        first, refined = (points_to_boxes(flatten([points]), grid) / side for points in (maps.first, maps.refined))
        has_first, has_refined = target.first >= 0, target.refined >= 0
        true_first, true_refined = (target.first_boxes / side)[has_first], (target.refined_boxes / side)[has_refined]
        first, refined = first[has_first], refined[has_refined]
        yield 'loss_pts_init', self.loss_bbox_init(first, true_first, avg_factor=counts[0])
        yield 'loss_pts_refine', self.loss_bbox_refine(refined, true_refined, avg_factor=counts[1])
        quality = side.new_zeros(has_refined.shape, dtype=refined.dtype)
        quality[has_refined] = bbox_overlaps(refined.detach(), true_refined.to(refined), is_aligned=True)
        scores, labels = flatten([maps.scores]).flatten(0, 1), target.labels.flatten()
        weight = target.valid.flatten().to(scores)
        yield 'loss_cls', self.loss_cls(scores, (labels, quality.flatten()), weight, avg_factor=counts[1])

    def _corners(self, maps: LevelMaps, target: PointTargets, counts: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        heat, offsets = flatten([maps.corner_scores]).sigmoid(), flatten([maps.corner_offsets])
        weight = target.valid.to(heat)
        heat_loss = offset_loss = heat.new_zeros(())
        for i, count in enumerate(counts):
            true_heat, part = target.heat[..., i], slice(2 * i, 2 * i + 2)
            is_corner = (true_heat == 1).to(heat)[..., None].expand(*heat.shape)
            heat_loss = heat_loss + self.loss_heatmap(heat[..., i], true_heat, weight=weight, avg_factor=count)
            true_offsets = target.offsets[..., part]
            offset_loss = offset_loss + self.loss_offset(offsets[..., part], true_offsets, is_corner, avg_factor=count)
        yield 'loss_heatmap', heat_loss / 2
        yield 'loss_offset', offset_loss / 2

    def _class_maps(self, levels: Sequence[LevelMaps], grids: Sequence[Tensor], samples: Sequence[Any]) -> Tensor:
        stride, (classes, rows, columns) = int(grids[0][0, 2]), levels[0].classes.shape[1:]
        weights = []
        for sample in samples:
            height, width = (side // stride for side in sample.metainfo['pad_shape'][:2])
            truth = sample.gt_instances
            weights.append(class_weights(truth.bboxes, truth.labels, (classes, rows, columns), (height, width), stride))
        finest = torch.stack(weights)
        per_level = [functional.interpolate(finest, size=maps.classes.shape[2:], mode='nearest') for maps in levels]
        return self.loss_sem(flatten([maps.classes for maps in levels]).flatten(), flatten(per_level).flatten())


def _count(has: Tensor) -> Tensor:
    """Gives the number of points, at least one for each image, for ``has`` (B, P)."""
    return has.sum(1).clamp(min=1).sum()
