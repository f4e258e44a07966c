"""HTC, Swin-L pretrained on ImageNet-22K, COCO instance segmentation, 72 epochs: towards the paper's HTC++.

    python tools/train.py configs/htc_swin_l.py

Expected: not known; the paper's HTC++ has box AP 57.1, mask AP 49.5 on val2017, with several scales 58.0 and 50.4.
From: the paper (arXiv 2103.14030, table 2c), which publishes no configuration; not run here. What is stated there, and
what is our choice: see htc_swin_b.py.
"""

_base_ = './htc_swin_b.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window7_224_22k.pth'
model = dict(
    backbone=dict(arch='large', init_cfg=dict(checkpoint=pretrained)),
    neck=dict(in_channels=[192, 384, 768, 1536]),
)
