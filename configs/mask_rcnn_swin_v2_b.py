"""Mask R-CNN, Swin V2-B, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_swin_v2_b.py

Expected: not known; no official number exists.
From: our choice of settings (those of mask_rcnn_swin_v2_t, with the drop path of mask_rcnn_swin_b); not run here.
"""

_base_ = './mask_rcnn_swin_v2_t.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v2.0.0/swinv2_base_patch4_window8_256.pth'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2, init_cfg=dict(checkpoint=pretrained)),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
