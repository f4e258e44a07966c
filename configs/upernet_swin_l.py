"""UPerNet, Swin-L pretrained on ImageNet-22K, ADE20K in crops of 640x640, 160k iterations.

    python tools/train.py configs/upernet_swin_l.py

Expected: mIoU 52.05, with several scales and flip 53.53; 234M parameters, 3230 GFLOPs (tools/get_flops.py counts 2462).
From: Microsoft's README (github.com/microsoft/Swin-Transformer), which publishes no configuration, and no Swin-L in
crops of 512x512: pretraining and crop are as stated there, everything else is the 512x512 recipe's. Not reproduced with
this code.
"""

_base_ = './upernet_swin_b_22k_640.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window7_224_22k.pth'
model = dict(
    backbone=dict(arch='large', init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)
