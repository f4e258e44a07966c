"""RetinaNet, Swin-T, COCO detection, 12 epochs.

    python tools/train.py configs/retinanet_swin_t.py

Expected: not known; no official number exists.
From: our choice of settings (mmdet's head; schedule, data and drop path of the official Mask R-CNN 1x recipe); not
run here. mmdet has this model with SGD, without a number either.
"""

_base_ = [
    '_base_/models/retinanet_swin.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/adamw_1x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(drop_path_rate=0.1, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
