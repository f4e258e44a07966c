"""UPerNet, Swin-B, ADE20K semantic segmentation, 160k iterations: the official recipe.

    python tools/train.py configs/upernet_swin_b.py

Expected: mIoU 48.13, with several scales and flip 49.72; 121M parameters, 1188 GFLOPs.
From: the official repository (upernet_swin_base_patch4_window7_512x512_160k_ade20k); not reproduced with this code.
"""

_base_ = './upernet_swin_t.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224.pth'
model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
