"""Mask R-CNN, Swin-L, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_swin_l.py

Expected: not known; no official number exists.
From: our choice of settings (the official Mask R-CNN 1x recipe of Swin-T, with the drop path of the paper's appendix
A2.2 and weights of ImageNet-22K, as none of 1K are published); not run here.
"""

_base_ = './mask_rcnn_swin_t.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window7_224_22k.pth'
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2, init_cfg=dict(checkpoint=pretrained)),
    neck=dict(in_channels=[192, 384, 768, 1536]),
)
