"""Mask2Former, Swin-T, COCO instance segmentation, 50 epochs: mmdet's recipe.

    python tools/train.py configs/mask2former_swin_t_instance.py       # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/mask2former_swin_t_instance.py CHECKPOINT

Expected: box AP 47.7, mask AP 44.7; on val2017, 47M parameters.
From: mmdet's model zoo (mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco); not reproduced here.
"""

_base_ = [
    '_base_/models/mask2former_swin.py',
    '_base_/datasets/coco_instance_lsj.py',
    '_base_/schedules/mask2former_50e.py',
    '_base_/detection_iterations_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
