"""RepPoints V2: objects as sets of points, verified by the corners and the classes that other branches see.

Chen et al. 2020, arXiv 2007.08508. Written after ``dense_heads/reppoints_v2_head.py`` of the official Swin detection
repository, with the settings of its recipes: the first two of nine points are the corners of a box ('exact_minmax').
Parameters have the official names.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmcv.ops import DeformConv2d
from mmengine.model import BaseModule, bias_init_with_prob, normal_init
from torch import Tensor, nn

from .corner_pooling import CornerPooling
from .point_maps import LevelMaps, find_objects, flatten, points_to_boxes
from .reppoints_v2_losses import PointLosses
from .reppoints_v2_targets import Assignment, PointTargets

KERNEL, POINTS = 3, 9  # the points are the taps of a deformable convolution
CORNERS = ('tl', 'br')


class RepPointsV2Head(BaseModule):
    """Boxes from the maps of a neck, each (B, in_channels, H, W).

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the neck's maps.
        norm_cfg: The norm after every convolution.
        feat_channels: Channels inside the head, a multiple of 32.
        stacked_convs: Number of convolutions for classes, and for points.
        shared_stacked_convs: Number of convolutions more for corners and class maps.
        corner_dim: Channels between the layers of corner pooling.
        gradient_mul: Share of the gradient that goes from what points see to the points.
        point_strides: Strides of the maps in pixels, powers of 2.
        point_base_scale: Side of a box in strides, for the first assignment and the losses of boxes.
        train_cfg: ``topk`` candidates of each level for an object, ``gaussian_iou`` of the Gaussians around corners.
        test_cfg: ``nms_pre``, ``score_thr``, ``nms`` and ``max_per_img``, as mmdet's heads have them.
        init_cfg: As in mmengine; None draws fresh weights as officially.
        losses: ``loss_cls`` to ``loss_sem``, configs as in `PointLosses`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        norm_cfg: dict,
        feat_channels: int = 256,
        stacked_convs: int = 3,
        shared_stacked_convs: int = 1,
        corner_dim: int = 64,
        gradient_mul: float = 0.1,
        point_strides: Sequence[int] = (8, 16, 32, 64, 128),
        point_base_scale: int = 4,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: dict | None = None,
        **losses: dict,
    ):
        from mmdet.models.task_modules.prior_generators import MlvlPointGenerator

        super().__init__(init_cfg)
        self.num_classes, self.gradient_mul, self.test_cfg = num_classes, gradient_mul, test_cfg
        self.prior_generator = MlvlPointGenerator(list(point_strides), offset=0.0)
        if train_cfg:
            self.assignment = Assignment(point_base_scale, train_cfg['topk'], train_cfg['gaussian_iou'], num_classes)
        self.losses = PointLosses(point_base_scale, **losses)
        self._init_towers(in_channels, feat_channels, stacked_convs, shared_stacked_convs, norm_cfg)
        self.hem_tl = CornerPooling(feat_channels, corner_dim, ('top', 'left'), norm_cfg)
        self.hem_br = CornerPooling(feat_channels, corner_dim, ('bottom', 'right'), norm_cfg)
        self._init_outputs(feat_channels)

    def _init_towers(self, width: int, channels: int, stacked: int, shared: int, norm_cfg: dict) -> None:
        def convs(width: int, number: int) -> nn.Sequential:
            widths = [width, *[channels] * number][:number]
            return nn.Sequential(*[ConvModule(w, channels, 3, padding=1, norm_cfg=norm_cfg) for w in widths])

        self.cls_convs, self.reg_convs = convs(width, stacked), convs(width, stacked)
        self.shared_convs = convs(channels, shared)
        self.reppoints_sem_embedding = ConvModule(channels, channels, 1, norm_cfg=norm_cfg)

    def _init_outputs(self, channels: int) -> None:
        y, x = torch.meshgrid(*[torch.arange(KERNEL) - KERNEL // 2] * 2, indexing='ij')
        self.register_buffer('taps', torch.stack([y, x], -1).view(1, -1, 1, 1), persistent=False)
        with_corners = channels + 6  # scores and offsets of both corners
        self.reppoints_cls_conv = DeformConv2d(with_corners, channels, KERNEL, padding=KERNEL // 2)
        self.reppoints_pts_refine_conv = DeformConv2d(with_corners, channels, KERNEL, padding=KERNEL // 2)
        self.reppoints_pts_init_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.reppoints_pts_init_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.reppoints_pts_refine_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.reppoints_cls_out = nn.Conv2d(channels, self.num_classes, 1)
        self.reppoints_sem_out = nn.Conv2d(channels, self.num_classes, 1)
        for corner in CORNERS:
            self.add_module(f'reppoints_hem_{corner}_score_out', nn.Conv2d(channels, 1, 3, padding=1))
            self.add_module(f'reppoints_hem_{corner}_offset_out', nn.Conv2d(channels, 2, 3, padding=1))

    def init_weights(self) -> None:
        """Draws fresh weights as officially: small ones, and scores of 0.01 everywhere."""
        super().init_weights()
        for conv in [*self.cls_convs, *self.reg_convs, *self.shared_convs]:
            normal_init(conv.conv, std=0.01)
        for name, part in self.named_children():
            if name.startswith('reppoints_') and not isinstance(part, ConvModule):
                is_score = name.endswith(('cls_out', 'sem_out', 'score_out'))
                normal_init(part, std=0.01, bias=bias_init_with_prob(0.01) if is_score else 0)

    def forward(self, features: Sequence[Tensor]) -> list[LevelMaps]:
        """Gives what the head says of each level of ``features``."""
        return [self.forward_single(x) for x in features]

    def forward_single(self, x: Tensor) -> LevelMaps:
        """Gives what the head says of one level ``x`` (B, in_channels, H, W)."""
        for_points = self.reg_convs(x)
        shared = self.shared_convs(for_points)
        context = self.reppoints_sem_embedding(shared)
        for_classes, for_points = self.cls_convs(x) + context, for_points + context
        corners = [getattr(self, f'hem_{corner}')(shared + context) for corner in CORNERS]
        scores, offsets = (
            torch.cat(
                [self.get_submodule(f'reppoints_hem_{c}_{kind}_out')(y) for c, y in zip(CORNERS, corners, strict=True)],
                1,
            )
            for kind in ('score', 'offset')
        )
        first = self.reppoints_pts_init_out(self.reppoints_pts_init_conv(for_points).relu())
        shift = (1 - self.gradient_mul) * first.detach() + self.gradient_mul * first - self.taps.to(first)
        refined = self.reppoints_pts_refine_conv(torch.cat([for_points, scores, offsets], 1), shift).relu()
        refined = self.reppoints_pts_refine_out(refined) + first.detach()
        classified, mask_weights = self._classify(torch.cat([for_classes, scores, offsets], 1), shift)
        return LevelMaps(classified, first, refined, scores, offsets, self.reppoints_sem_out(shared), mask_weights)

    def _classify(self, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gives the logits of the classes; a head with masks also gives the weights that draw them."""
        return self.reppoints_cls_out(self.reppoints_cls_conv(x, shift).relu()), None

    def grids(self, levels: Sequence[LevelMaps]) -> list[Tensor]:
        """Gives the places of the points of each level, (P, 3) as (x, y, stride) in pixels."""
        sizes, device = [maps.scores.shape[2:] for maps in levels], levels[0].scores.device
        return [grid[:, :3] for grid in self.prior_generator.grid_priors(sizes, device=device, with_stride=True)]

    def predict(self, x: Sequence[Tensor], batch_data_samples: Sequence[Any], rescale: bool = False) -> list[Any]:
        """Gives for each image an ``InstanceData`` of ``bboxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,).

        Boxes are in pixels of the network's image or, with ``rescale``, of the original one.
        """
        levels = self(x)
        return [self._find(levels, i, s.metainfo, rescale)[0] for i, s in enumerate(batch_data_samples)]

    def _find(self, levels: list[LevelMaps], i: int, meta: dict, rescale: bool) -> tuple[Any, Tensor]:
        return find_objects([maps.of_image(i) for maps in levels], self.grids(levels), meta, self.test_cfg, rescale)

    def loss(self, x: Sequence[Tensor], batch_data_samples: Sequence[Any]) -> dict[str, Any]:
        """Gives the losses by name, most as a list over levels."""
        levels = self(x)
        targets = self.targets(levels, batch_data_samples)
        return self.losses(levels, self.grids(levels), targets, batch_data_samples)

    @torch.no_grad()
    def targets(self, levels: Sequence[LevelMaps], samples: Sequence[Any]) -> PointTargets:
        """Gives what each point learns, for each image."""
        grids = self.grids(levels)
        candidates = points_to_boxes(flatten([maps.first for maps in levels]), torch.cat(grids))
        sizes = [maps.scores.shape[2:] for maps in levels]
        targets = []
        for sample, boxes in zip(samples, candidates, strict=True):
            valid = self.prior_generator.valid_flags(sizes, sample.metainfo['pad_shape'], device=boxes.device)
            centers = self.object_centers(sample)
            targets.append(self.assignment.targets(grids, valid, boxes, sample.gt_instances, centers))
        return PointTargets(*(torch.stack(values) for values in zip(*targets, strict=True)))

    def object_centers(self, sample: Any) -> Tensor:
        """Gives (G, 2): where in pixels the objects of an image are, for their points."""
        boxes = sample.gt_instances.bboxes
        return (boxes[:, :2] + boxes[:, 2:]) / 2
