"""DINO with 4 scales, Swin-T, COCO detection, 12 epochs.

    python tools/train.py configs/dino_swin_t.py                       # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/dino_swin_t.py CHECKPOINT

Expected: not known; mmdet publishes no number for DINO on Swin-T. 48M parameters, counted.
From: mmdet's recipe (dino-4scale_r50_8xb2-12e_coco, for ResNet-50), with the drop path of its Swin-L; not run here.
"""

_base_ = [
    '_base_/models/dino_swin.py',
    '_base_/datasets/coco_detection_dino.py',
    '_base_/schedules/dino_12e.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
