"""Faster R-CNN, Swin-T, COCO detection, 12 epochs.

    python tools/train.py configs/faster_rcnn_swin_t.py

Expected: not known; no official number exists.
From: our choice of settings (the official Mask R-CNN 1x recipe without masks, and with mmdet's rule of Faster R-CNN
that low overlaps are no positives); not run here.
"""

_base_ = [
    '_base_/models/mask_rcnn_swin.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/adamw_1x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    type='FasterRCNN',
    backbone=dict(drop_path_rate=0.1, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))),
)
