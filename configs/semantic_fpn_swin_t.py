"""Semantic FPN, Swin-T, ADE20K semantic segmentation, 160k iterations.

    python tools/train.py configs/semantic_fpn_swin_t.py               # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/semantic_fpn_swin_t.py CHECKPOINT     # several scales and flip: --tta

Expected: not known; neither the official repository nor mmseg publishes a number.
From: our choice of settings (mmseg's head; schedule and data of the official UPerNet recipe; drop path 0.2); not run
here.
"""

_base_ = [
    '_base_/models/semantic_fpn_swin.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/segmentation_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
