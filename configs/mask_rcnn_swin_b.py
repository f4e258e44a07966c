"""Mask R-CNN, Swin-B, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_swin_b.py

Expected: not known; no official number exists.
From: our choice of settings (the official Mask R-CNN 1x recipe of Swin-T, with the drop path of the paper's appendix
A2.2); not run here.
"""

_base_ = './mask_rcnn_swin_t.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224.pth'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2, init_cfg=dict(checkpoint=pretrained)),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
