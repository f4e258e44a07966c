"""Mask R-CNN, Swin-T, LVIS v1 instance segmentation, 12 epochs.

    pip install lvis
    python tools/train.py configs/mask_rcnn_swin_t_lvis.py

Expected: not known; no official number exists.
From: our choice of settings (the official 1x recipe on COCO; sampling of rare classes, score threshold and 300 boxes an
image of mmdet's mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1); not run here.
"""

_base_ = [
    '_base_/models/mask_rcnn_swin.py',
    '_base_/datasets/lvis_instance.py',
    '_base_/schedules/adamw_1x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(drop_path_rate=0.1, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    roi_head=dict(bbox_head=dict(num_classes=1203), mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.0001, max_per_img=300)),
)
tta_model = dict(tta_cfg=dict(max_per_img=300))
