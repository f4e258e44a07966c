"""UPerNet, Swin-S, ADE20K semantic segmentation, 160k iterations: the official recipe.

    python tools/train.py configs/upernet_swin_s.py

Expected: mIoU 47.64, with several scales and flip 49.47; 81M parameters, 1038 GFLOPs.
From: the official repository (upernet_swin_small_patch4_window7_512x512_160k_ade20k); not reproduced with this code.
"""

_base_ = './upernet_swin_t.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth'
model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint=pretrained)))
