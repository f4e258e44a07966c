"""Cascade Mask R-CNN, Swin-T, COCO instance segmentation, 12 epochs: the official 1x recipe.

    python tools/train.py configs/cascade_mask_rcnn_swin_t.py          # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/cascade_mask_rcnn_swin_t.py CHECKPOINT

Expected: box AP 48.1, mask AP 41.7; on val2017, 86M parameters, 745 GFLOPs.
From: the official repository (github.com/SwinTransformer/Swin-Transformer-Object-Detection, cascade_mask_rcnn_swin_
tiny_patch4_window7_mstrain_480-800_giou_4conv1f_adamw_1x_coco), trained there with mixed precision (here `--amp`); not
reproduced here.
"""

_base_ = [
    '_base_/models/cascade_mask_rcnn_swin.py',
    '_base_/datasets/coco_instance.py',
    '_base_/schedules/adamw_1x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(drop_path_rate=0.0, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
