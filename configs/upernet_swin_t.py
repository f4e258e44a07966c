"""UPerNet, Swin-T, ADE20K semantic segmentation, 160k iterations: the official recipe.

    python tools/train.py configs/upernet_swin_t.py                    # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/upernet_swin_t.py CHECKPOINT          # several scales and flip: --tta

Expected: mIoU 44.51, with several scales and flip 45.81; 60M parameters, 945 GFLOPs.
From: the official repository (github.com/SwinTransformer/Swin-Transformer-Semantic-Segmentation, upernet_swin_tiny_
patch4_window7_512x512_160k_ade20k); not reproduced with this code.
"""

_base_ = [
    '_base_/models/upernet_swin.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/segmentation_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
