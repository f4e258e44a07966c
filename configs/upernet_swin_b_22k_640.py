"""UPerNet, Swin-B pretrained on ImageNet-22K, ADE20K in crops of 640x640, 160k iterations.

    python tools/train.py configs/upernet_swin_b_22k_640.py

Expected: mIoU 50.04, with several scales and flip 51.66; 121M parameters, 1841 GFLOPs.
From: Microsoft's README (github.com/microsoft/Swin-Transformer), which publishes no configuration: pretraining and crop
are as stated there, everything else is the 512x512 recipe's. Not reproduced with this code.
"""

_base_ = [
    '_base_/models/upernet_swin.py',
    '_base_/datasets/ade20k_640.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/segmentation_runtime.py',
]

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224_22k.pth'
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(arch='base', init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
