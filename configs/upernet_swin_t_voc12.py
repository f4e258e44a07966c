"""UPerNet, Swin-T, Pascal VOC 2012 semantic segmentation, 160k iterations.

    python tools/train.py configs/upernet_swin_t_voc12.py

Expected: not known; no official number exists.
From: our choice of settings (the official recipe on ADE20K with the data of mmseg's pascal_voc12.py); not run here.
"""

_base_ = [
    '_base_/models/upernet_swin.py',
    '_base_/datasets/voc12.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/segmentation_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)
