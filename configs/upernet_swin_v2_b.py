"""UPerNet, Swin V2-B, ADE20K semantic segmentation, 160k iterations.

    python tools/train.py configs/upernet_swin_v2_b.py

Expected: not known; no official number exists.
From: our choice of settings (those of upernet_swin_v2_t); not run here.
"""

_base_ = './upernet_swin_v2_t.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v2.0.0/swinv2_base_patch4_window8_256.pth'
model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
