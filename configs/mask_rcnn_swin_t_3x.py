"""Mask R-CNN, Swin-T, COCO instance segmentation, 36 epochs: the official 3x recipe.

    python tools/train.py configs/mask_rcnn_swin_t_3x.py               # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/mask_rcnn_swin_t_3x.py CHECKPOINT

Expected: box AP 46.0, mask AP 41.6; on val2017, 48M parameters, 267 GFLOPs.
From: the official repository (github.com/SwinTransformer/Swin-Transformer-Object-Detection, mask_rcnn_swin_tiny_patch4_
window7_mstrain_480-800_adamw_3x_coco), trained there with mixed precision (here `--amp`); not reproduced here.
"""

_base_ = [
    '_base_/models/mask_rcnn_swin.py',
    '_base_/datasets/coco_instance.py',
    '_base_/schedules/adamw_3x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(drop_path_rate=0.2, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
