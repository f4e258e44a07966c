"""RepPoints V2, Swin-T, COCO object detection, 36 epochs: the official recipe, which exists as 3x only.

    python tools/train.py configs/reppointsv2_swin_t.py                # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/reppointsv2_swin_t.py CHECKPOINT

Expected: box AP 50.0; on val2017, 45M parameters, 283 GFLOPs.
From: the official repository (github.com/SwinTransformer/Swin-Transformer-Object-Detection, reppoitsv2_swin_tiny_
patch4_window7_mstrain_480_960_giou_gfocal_bifpn_adamw_3x_coco), trained there with mixed precision (here `--amp`); not
reproduced here.
"""

_base_ = [
    '_base_/models/reppoints_v2_swin.py',
    '_base_/datasets/coco_detection_480_960.py',
    '_base_/schedules/adamw_3x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(drop_path_rate=0.2, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
