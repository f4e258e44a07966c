"""Test-time augmentation for instance segmentation: boxes and masks of several views of a picture, merged into one.

(Semantic segmentation needs nothing of ours: mmseg's ``SegTTAModel`` averages the probabilities of all views.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from ..registry import MODELS

AXES = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}  # what a flip reverses in (..., H, W)


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """A detector that looks at every view of a picture, scaled or flipped, and merges what it finds.

    The boxes of all views go through one more NMS, as in mmdet's ``DetTTAModel``, which has no masks. The mask head
    then looks at the boxes that are left in each view, and its probabilities are averaged (mmdet 2.x,
    ``MaskTestMixin.aug_test_mask``) and pasted once. A detector without masks is merged like ``DetTTAModel`` does.

    Args:
        module: The detector, or its config; one with masks must have a ``StandardRoIHead``, as Mask R-CNN has.
        tta_cfg: ``nms``, that of mmcv's `batched_nms`, and ``max_per_img``, the boxes to keep.
        data_preprocessor: Takes the place of the detector's; None keeps that.

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
        """One ``DetDataSample`` a picture, in pixels of the picture; ``data`` as `TestTimeAug` and the loader make it.

        ``inputs`` and ``data_samples`` are lists over the views of lists over the pictures.
        """
        if not self.module.with_mask:
            return super().test_step(data)
        views = [self._look(dict(zip(data, view, strict=True))) for view in zip(*data.values(), strict=True)]
        merged = self.merge_preds(list(zip(*(samples for _, samples in views), strict=True)))
        self._add_masks(merged, views)
        return merged

    def merge_preds(self, data_samples_list: Sequence[Sequence[Any]]) -> list[Any]:
        """The first sample of each picture, with the boxes of all its views merged.

        ``data_samples_list[picture][view]`` has boxes in pixels of the picture, flipped where the view is.
        """
        return [self._merge(samples) for samples in data_samples_list]

    def _look(self, view: dict) -> tuple[Sequence[Tensor], list[Any]]:
        """Feature maps of one view of each picture, and the samples with the boxes found there."""
        batch = self.module.data_preprocessor(view, False)
        samples = batch['data_samples']
        features = self.module.extract_feat(batch['inputs'])
        proposals = self.module.rpn_head.predict(features, samples, rescale=False)
        head = self.module.roi_head
        metas = [sample.metainfo for sample in samples]
        for sample, found in zip(
            samples, head.predict_bbox(features, metas, proposals, head.test_cfg, rescale=True), strict=True
        ):
            sample.pred_instances = found
        return features, samples

    def _merge(self, samples: Sequence[Any]) -> Any:
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
        """Gives ``merged`` the masks (boxes, H, W), bool, of the mean probability over the views."""
        from mmdet.structures.bbox import bbox2roi

        head = self.module.roi_head
        found = [sample.pred_instances for sample in merged]
        counts = [len(instances) for instances in found]
        total = torch.zeros(0, 1, 1, 1)
        for features, samples in views if sum(counts) else ():
            boxes = [_boxes_in_view(f.bboxes, sample.metainfo) for f, sample in zip(found, samples, strict=True)]
            masks = head._mask_forward(features, bbox2roi(boxes))['mask_preds'].sigmoid().split(counts)
            masks = torch.cat([_flip(mask, sample.metainfo) for mask, sample in zip(masks, samples, strict=True)])
            total = total + masks if len(total) else masks
        # The boxes are in pixels of the picture already, so scale_factor is 1 whatever that of the first view was.
        metas = [dict(ori_shape=sample.ori_shape, scale_factor=(1.0, 1.0)) for sample in merged]
        head.mask_head.predict_by_feat(
            (total / len(views)).split(counts), found, metas, head.test_cfg, rescale=True, activate_map=True
        )


def _flip(array: Tensor, meta: dict) -> Tensor:
    """``array`` (..., H, W) flipped as the view is; twice is the identity."""
    return array.flip(AXES[meta['flip_direction']]) if meta.get('flip') else array


def _flip_boxes(boxes: Tensor, meta: dict) -> Tensor:
    """``boxes`` (n, 4) in pixels of the picture, flipped as the view is; twice is the identity."""
    from mmdet.structures.bbox import bbox_flip

    return bbox_flip(boxes, meta['ori_shape'], meta['flip_direction']) if meta.get('flip') else boxes


def _boxes_in_view(boxes: Tensor, meta: dict) -> Tensor:
    """``boxes`` (n, 4) in pixels of the picture, in pixels of its view."""
    return _flip_boxes(boxes, meta) * boxes.new_tensor(meta['scale_factor']).repeat(2)
