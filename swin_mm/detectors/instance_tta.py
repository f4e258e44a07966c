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

    The boxes of all views go through one more NMS, as in mmdet's ``DetTTAModel``, which has no masks. Mask R-CNN then
    predicts masks for the boxes that are left, in each view. Their probabilities are averaged (mmdet 2.x,
    ``MaskTestMixin.aug_test_mask``) and pasted once. Any other detector's boxes keep the masks, if there are any, of
    the view that they were found in.

    Args:
        module: The detector, or its config.
        tta_cfg: ``nms`` is the config of mmcv's `batched_nms`, ``max_per_img`` the number of boxes to keep.
        data_preprocessor: Replaces the detector's own; None keeps that one.
    """

    def __init__(self, module: Any, tta_cfg: dict, data_preprocessor: Any = None):
        super().__init__(module, data_preprocessor)
        self.tta_cfg = tta_cfg

    @torch.no_grad()
    def test_step(self, data: dict) -> list[Any]:
        """Gives one ``DetDataSample`` per image, in pixels of the original image.

        ``data`` is what `TestTimeAug` and the loader make: its ``inputs`` and ``data_samples`` are lists over the
        views, and each item is a list over the images. Raises ValueError for a detector that gives panoptic maps.
        """
        inputs = [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]
        if not _masks_follow_boxes(self.module):
            return self.merge_preds(list(zip(*map(self._predict, inputs), strict=True)))
        views = [self._predict_boxes(view) for view in inputs]
        samples_of_views = [samples for _, samples in views]
        merged = self.merge_preds(list(zip(*samples_of_views, strict=True)))
        self._add_masks(merged, views)
        return merged

    def merge_preds(self, data_samples_list: Sequence[Sequence[Any]]) -> list[Any]:
        """Gives the first sample of each image, with the boxes of all its views merged, and the masks that they have.

        ``data_samples_list[image][view]`` has both in pixels of the original image, flipped if the view is flipped.
        """
        return [self._merge_boxes(samples) for samples in data_samples_list]

    def _predict(self, view: dict) -> list[Any]:
        """Gives the samples of one view of each image, with all that the detector finds there."""
        flips = [sample.metainfo.get('flip', False) for sample in view['data_samples']]
        for sample in view['data_samples']:
            # Told of a flip, a cascade of mmdet 3.3 turns its masks back before they are pasted, and fails at that.
            sample.set_metainfo(dict(flip=False))
        samples = self.module.test_step(view)
        for sample, flip in zip(samples, flips, strict=True):
            sample.set_metainfo(dict(flip=flip))
        return samples

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

        if 'pred_panoptic_seg' in samples[0]:
            raise ValueError(
                'panoptic maps of several views cannot be merged: test without --tta, or set '
                'model.test_cfg.panoptic_on=False in a MaskFormer or Mask2Former that also gives instances'
            )
        found = InstanceData.cat([_upright(sample) for sample in samples])
        if len(found):
            kept, index = batched_nms(found.bboxes, found.scores, found.labels, self.tta_cfg['nms'])
            index = index[: self.tta_cfg['max_per_img']]
            found = found[index]
            found.bboxes, found.scores = kept[: len(index), :4], kept[: len(index), 4]
        samples[0].pred_instances = found
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


def _masks_follow_boxes(detector: Any) -> bool:
    """Whether masks can be predicted for any boxes, by the steps of `InstanceTTAModel`: as in Mask R-CNN."""
    from mmdet.models import StandardRoIHead, TwoStageDetector

    head: Any = getattr(detector, 'roi_head', None)
    return type(detector).predict is TwoStageDetector.predict and type(head) is StandardRoIHead and head.with_mask


def _upright(sample: Any) -> InstanceData:
    """Gives the boxes, scores, labels and masks found in one view, flipped back if the view is flipped."""
    from mmdet.structures.mask import mask2bbox

    found, meta = sample.pred_instances, sample.metainfo
    result = InstanceData(scores=found.scores, labels=found.labels, bboxes=_flip_boxes(found.bboxes, meta))
    if 'masks' in found:
        result.masks = _flip(found.masks, meta)
        if not found.bboxes.any():  # SOLO's head gives zeros
            result.bboxes = mask2bbox(result.masks).to(found.scores)
    return result


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
