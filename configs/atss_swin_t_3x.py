"""ATSS, Swin-T, COCO detection, 36 epochs.

    python tools/train.py configs/atss_swin_t_3x.py

Expected: box AP 47.2; on val2017, 36M parameters, 215 GFLOPs.
From: the paper (arXiv 2103.14030, table 2a), which publishes no configuration; not reproduced here. Stated there, in
4.2 and A2.2: short sides of 480 to 800 pixels, AdamW with rate 1e-4 and decay 0.05, batches of 16, 36 epochs with
steps at 27 and 33, drop path 0.2. Our choice: mmdet's head; crops, warm-up and rules of decay of the official Mask
R-CNN recipes.
"""

_base_ = [
    '_base_/models/atss_swin.py',
    '_base_/datasets/coco_detection.py',
    '_base_/schedules/adamw_3x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(drop_path_rate=0.2, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
