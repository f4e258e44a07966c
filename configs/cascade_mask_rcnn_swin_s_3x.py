"""Cascade Mask R-CNN, Swin-S, COCO instance segmentation, 36 epochs: the official 3x recipe.

    python tools/train.py configs/cascade_mask_rcnn_swin_s_3x.py

Expected: box AP 51.9, mask AP 45.0; on val2017, 107M parameters, 838 GFLOPs.
From: the official repository (cascade_mask_rcnn_swin_small_patch4_window7_mstrain_480-800_giou_4conv1f_adamw_3x_
coco), trained there with mixed precision (here `--amp`); not reproduced here.
"""

_base_ = './cascade_mask_rcnn_swin_t_3x.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth'
model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint=pretrained)))
