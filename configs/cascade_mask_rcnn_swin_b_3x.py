"""Cascade Mask R-CNN, Swin-B, COCO instance segmentation, 36 epochs: the official 3x recipe.

    python tools/train.py configs/cascade_mask_rcnn_swin_b_3x.py

Expected: box AP 51.9, mask AP 45.0; on val2017, 145M parameters, 982 GFLOPs.
From: the official repository (cascade_mask_rcnn_swin_base_patch4_window7_mstrain_480-800_giou_4conv1f_adamw_3x_
coco), trained there with mixed precision (here `--amp`); not reproduced here.
"""

_base_ = './cascade_mask_rcnn_swin_t_3x.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224.pth'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.3, init_cfg=dict(checkpoint=pretrained)),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
