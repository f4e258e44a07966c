"""Test-time augmentation for instance segmentation: merges the boxes and masks of several views of an image.

(Semantic segmentation needs nothing of ours: mmseg's ``SegTTAModel`` averages the probabilities of all views.)
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import MODELS

AXES = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}  # what a flip reverses in (..., H, W)


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Runs a detector on every view of an image, scaled or flipped, and merges what it finds.

    The boxes of all views go through one more NMS, as in mmdet's ``DetTTAModel``, which has no masks. The mask head
    then predicts masks for the boxes that are left, in each view. Their probabilities are averaged (mmdet 2.x,
    ``MaskTestMixin.aug_test_mask``) and pasted once. Results without masks are merged as in ``DetTTAModel``.

    Args:
        module: The detector, or its config; one with masks must have a ``StandardRoIHead``, as Mask R-CNN has.
        tta_cfg: ``nms`` is the config of mmcv's `batched_nms`, ``max_per_img`` the number of boxes to keep.
        data_preprocessor: Replaces the detector's own; None keeps that one.

    Raises:
        ValueError: The masks of ``module`` come from another head.
    """

    def __init__(self, module: Any, tta_cfg: dict, data_preprocessor: Any = None):
        super().__init__(module, data_preprocessor)
        self.tta_cfg = tta_cfg
        head = type(getattr(self.module, 'roi_head', None)).__name__
        if self.module.with_mask and head != 'StandardRoIHead':
            raise ValueError(f'masks of several views are merged with roi_head=StandardRoIHead only, got {head}')

    @torch.no_grad()
    def test_step(self, data: dict) -> list[Any]:
        """Gives one ``DetDataSample`` per image, in pixels of the original image.

        ``data`` is what `TestTimeAug` and the loader make: its ``inputs`` and ``data_samples`` are lists over the
        views, and each item is a list over the images.
        """
        if not self.module.with_mask:
            return super().test_step(data)
        views = []
        for values in zip(*data.values(), strict=True):
            views.append(self._predict_boxes(dict(zip(data, values, strict=True))))
        samples_of_views = [samples for _, samples in views]
        merged = self.merge_preds(list(zip(*samples_of_views, strict=True)))
        self._add_masks(merged, views)
        return merged

    def merge_preds(self, data_samples_list: Sequence[Sequence[Any]]) -> list[Any]:
        """Gives the first sample of each image, with the boxes of all its views merged.

        ``data_samples_list[image][view]`` has boxes in pixels of the original image, flipped if the view is flipped.
        """
        return [self._merge_boxes(samples) for samples in data_samples_list]

    def _predict_boxes(self, view: dict) -> tuple[Sequence[Tensor], list[Any]]:
        """Gives the feature maps of one view of each image, and the samples with the boxes found there."""
        batch = self.module.data_preprocessor(view, False)
        samples = batch['data_samples']
        features = self.module.extract_feat(batch['inputs'])
        proposals = self.module.rpn_head.predict(features, samples, rescale=False)
        head = self.module.roi_head
        metas = [sample.metainfo for sample in samples]
        results = head.predict_bbox(features, metas, proposals, head.test_cfg, rescale=True)
        for sample, instances in zip(samples, results, strict=True):
            sample.pred_instances = instances
        return features, samples

    def _merge_boxes(self, samples: Sequence[Any]) -> Any:
        from mmcv.ops import batched_nms

        boxes = torch.cat([_flip_boxes(sample.pred_instances.bboxes, sample.metainfo) for sample in samples])
        scores = torch.cat([sample.pred_instances.scores for sample in samples])
        labels = torch.cat([sample.pred_instances.labels for sample in samples])
        if len(boxes):
            kept, index = batched_nms(boxes, scores, labels, self.tta_cfg['nms'])
            index = index[: self.tta_cfg['max_per_img']]
            boxes, scores, labels = kept[: len(index), :4], kept[: len(index), 4], labels[index]
        samples[0].pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
        return samples[0]

    def _add_masks(self, merged: list[Any], views: list[tuple[Sequence[Tensor], list[Any]]]) -> None:
        """Adds to ``merged`` the masks (boxes, H, W), bool, by the mean probability over the views."""
        head = self.module.roi_head
        found = [sample.pred_instances for sample in merged]
        boxes = [instances.bboxes for instances in found]
        counts = [len(instances) for instances in found]
        total = torch.zeros(0, 1, 1, 1)
        if sum(counts):
            total = reduce(torch.add, (self._mask_probabilities(boxes, *view) for view in views))
        # The boxes are in pixels of the original image already, so scale_factor is 1, whatever the first view had.
        metas = [dict(ori_shape=sample.ori_shape, scale_factor=(1.0, 1.0)) for sample in merged]
        probabilities = (total / len(views)).split(counts)
        head.mask_head.predict_by_feat(probabilities, found, metas, head.test_cfg, rescale=True, activate_map=True)

    def _mask_probabilities(self, boxes: list[Tensor], features: Sequence[Tensor], samples: list[Any]) -> Tensor:
        """Gives (boxes, classes, h, w) for the boxes of all images in one view, flipped back if the view is flipped."""
        from mmdet.structures.bbox import bbox2roi

        metas = [sample.metainfo for sample in samples]
        boxes_in_view = [_boxes_in_view(some, meta) for some, meta in zip(boxes, metas, strict=True)]
        masks = self.module.roi_head._mask_forward(features, bbox2roi(boxes_in_view))['mask_preds'].sigmoid()
        masks = masks.split([len(some) for some in boxes])
        return torch.cat([_flip(mask, meta) for mask, meta in zip(masks, metas, strict=True)])


def _flip(array: Tensor, meta: dict) -> Tensor:
    """Flips ``array`` (..., H, W) as the view is flipped; a second flip undoes the first."""
    return array.flip(AXES[meta['flip_direction']]) if meta.get('flip') else array


def _flip_boxes(boxes: Tensor, meta: dict) -> Tensor:
    """Flips ``boxes`` (n, 4), in pixels of the original image, as the view is; a second flip undoes the first."""
    from mmdet.structures.bbox import bbox_flip

    return bbox_flip(boxes, meta['ori_shape'], meta['flip_direction']) if meta.get('flip') else boxes


def _boxes_in_view(boxes: Tensor, meta: dict) -> Tensor:
    """Turns ``boxes`` (n, 4) in pixels of the original image into pixels of its view."""
    return _flip_boxes(boxes, meta) * boxes.new_tensor(meta['scale_factor']).repeat(2)
